"""Put a measured number into the prose, so that it cannot drift from the cell that computed it."""

import numbers

from IPython.display import display


def report(name, value, digits=3):
    """Glue `value` into the text as a rounded string.

    The text then says ``{glue:text}`name` ``. A rounded string is stored, never a float: myst-nb would
    otherwise keep every digit, and the last ones differ between processors.

    Parameters
    ----------
    name : str
        The key that the text uses; unique within a chapter.
    value : float, int or str
        A string is taken as it is (for "17 of 20").
    digits : int
        Significant digits of a float. Integers are printed whole.

    Raises
    ------
    ValueError
        If `value` is not a single finite number or a string, or `digits` is below 1.
    """
    text = value if isinstance(value, str) else significant(value, digits)
    # The record is what myst-nb's glue writes; the plain text is for readers in Jupyter.
    display(
        {"application/papermill.record/text/plain": repr(text), "text/plain": f"{name} = {text}"},
        metadata={"scrapbook": {"name": name, "mime_prefix": "application/papermill.record/"}},
        raw=True,
    )


def significant(value, digits=3):
    """`value` with `digits` significant digits, as text a person would write (1.5e-7 as 1.5·10⁻⁷).

    >>> significant(0.23641), significant(1.0), significant(-2.3e-7, 2), significant(12)
    ('0.236', '1.00', '−2.3·10⁻⁷', '12')
    """
    if hasattr(value, "item") and getattr(value, "size", 0) != 0:
        try:
            value = value.item()
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"expected a single number, got shape {tuple(value.shape)}") from error
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"expected a number or a string, got {type(value).__name__}")
    if digits < 1:
        raise ValueError(f"expected at least 1 significant digit, got {digits}")
    if isinstance(value, numbers.Integral):
        return _minus(str(int(value)))
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"expected a finite number, got {value}")
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    exponent = int(exponent)
    if -4 < exponent < 5:
        rounded = float(f"{value:.{digits - 1}e}")
        return _minus(f"{rounded:.{max(digits - 1 - exponent, 0)}f}")
    return _minus(mantissa) + "·10" + str(exponent).translate(_SUPERSCRIPTS)


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _minus(text):
    return text.replace("-", "−")
