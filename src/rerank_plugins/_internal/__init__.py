"""Helpers of this package. Nothing in here is public: names and places may change in any release."""
