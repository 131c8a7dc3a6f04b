"""Alibaba Cloud's DashScope (Model Studio)."""

from __future__ import annotations

from rerank_plugins.scorers.remote.dialect import Dialect


class DashScope(Dialect):
    """``POST /compatible-api/v1/reranks``, its interface for qwen3-rerank; Beijing's address unless one is given."""

    name = "dashscope"
    path = "/compatible-api/v1/reranks"
    service = "https://dashscope.aliyuncs.com"
    key_variables = ("DASHSCOPE_API_KEY",)
    needs_model = True
    instruction_field = "instruct"
    max_documents = 500
