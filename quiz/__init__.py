"""The question bank: items whose right answer is computed, and whose wrong answers are each refuted by a number.

`quiz.bank` holds the items, one module a chapter. `verify` says what is wrong with an item. `python -m tools questions`
writes them for Moodle and Canvas and on paper.
"""

from .claims import above, below, between, each, exactly, near
from .items import Choice, Numeric, Option, Slip, Variant, verify

__all__ = ["Choice", "Numeric", "Option", "Slip", "Variant", "above", "below", "between", "each", "exactly", "near", "verify"]
