"""The smallest program: load a model, score three pairs, print. With another model: --model NAME."""

import argparse

from rerank_plugins import RerankError, load_reranker, sigmoid
from rerank_plugins.retrieval.language import BUNDLED_RERANKER, chinese_warnings, reads_chinese

PAIRS = [
    ("What is Apple's phone made of?", "The iPhone 15 Pro has a frame of titanium."),
    ("What is Apple's phone made of?", "Apples are a healthy fruit, rich in fibre."),
    ("How do I keep bread fresh?", "A loaf stays soft longest in a wooden or clay box, at room temperature."),
]
parser = argparse.ArgumentParser()
parser.add_argument("--model", default=BUNDLED_RERANKER, help="a folder, a bundled model, or a name on the hub")
model = parser.parse_args().model
for warning in chinese_warnings(model, embedder=""):
    print(warning)
chinese = [("苹果公司最新发布的手机", "iPhone 15 Pro 支持钛合金边框")] if reads_chinese(model) else []
try:
    scores = load_reranker(model).score(PAIRS + chinese)
except RerankError as error:
    raise SystemExit(str(error)) from None
for (query, passage), logit in zip(PAIRS + chinese, scores, strict=True):
    print(f"{sigmoid(logit):.4f} (logit {logit:+.3f})  {query} | {passage}")
