"""What is done to pages on their way out: descriptions, citations, stills, mends; and to the built folder."""

import html
import json
import re
import tomllib
from types import SimpleNamespace

import pytest
import yaml
from PIL import Image

from tools import finish, gallery, mathematics, pages
from tools import site as site_of_the_course
from tools.paths import ROOT, Trouble


def test_the_version_stands_in_three_places_and_is_one():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert citation["version"] == project["version"] == changelog[1]


def test_a_citation_of_a_page_and_of_the_course():
    sentence, bibtex = pages.citation("Depth", "https://example.org/depth.html")
    assert ". Depth. In: The vanishing" in sentence and sentence.endswith("https://example.org/depth.html")
    assert bibtex.startswith("@incollection{") and "url = {https://example.org/depth.html}" in bibtex
    sentence, bibtex = pages.citation(None, "")
    assert "In:" not in sentence and bibtex.startswith("@misc{") and "booktitle" not in bibtex and "url" not in bibtex


@pytest.mark.parametrize("address", ["", "https://example.org/course/"])
def test_a_link_to_a_chapter_has_a_preview_where_the_address_is_known(address):
    entries = gallery.chapters()
    app = SimpleNamespace(config=SimpleNamespace(html_baseurl=address, html_title="A course"), env=SimpleNamespace(course_chapters=entries))
    page = {"title": "Depth", "pageurl": address and f"{address}chapters/02_depth.html"}
    found = dict(re.findall(r'<meta \w+="([^"]+)" content="([^"]*)" />', pages.tags(app, "chapters/02_depth", page, None)))
    assert found["description"].startswith("Depth: predict, from the weights alone")
    assert ("og:image" in found) == ("og:url" in found) == bool(address)
    if address:
        assert found["og:image"] == "https://example.org/course/_static/previews/02_depth.png"
        assert found["og:image:alt"] == html.escape(gallery.figure(entries[1])[1]) and found["og:image:width"] == "1200"


def test_what_the_theme_gets_wrong_is_mended():
    wrong = (
        '<summary aria-label="Toggle hidden content">Show</summary><a class="navbar-brand logo" href="x"><p>Name</p></a>'
        '<th class="head"></th><th class="head text-right"><p></p></th><th class="head"><p>a</p></th>'
        '\n<!-- So that users can add custom icons -->\n<script defer src="../_static/scripts/fontawesome.js?digest=1"></script>'
    )
    right = pages.mended(wrong)
    assert right.startswith('<summary>Show</summary><nav aria-label="Home"><a class="navbar-brand logo"')
    assert right.count("<td></td>") == 2 and '<th class="head"><p>a</p></th>' in right and "fontawesome" not in right


def test_the_still_of_a_figure_is_the_state_that_is_shown_first():
    def model(name, **state):
        return {"model_name": name, "state": state}

    state = {
        "box": model("VBoxModel", children=["IPY_MODEL_slider", "IPY_MODEL_stack"]),
        "slider": model("IntSliderModel"),
        "stack": model("StackModel", selected_index=1, children=["IPY_MODEL_a", "IPY_MODEL_b"]),
        "a": model("HTMLModel", value="<svg>a</svg>"),
        "b": model("HTMLModel", value="<svg>b</svg>"),
    }
    assert pages.still(state, "box") == "<svg>b</svg>"
    assert pages.still(state, "slider") is None


def test_pictures_become_small_and_keep_their_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(finish, "KEPT", tmp_path / "kept")
    source = Image.effect_noise((40, 30), 50).convert("RGBA")
    source.save(tmp_path / "a.png")
    assert finish.small_pictures(tmp_path) == {"a": (40, 30)}
    assert not (tmp_path / "a.png").exists()
    with Image.open(tmp_path / "a.webp") as picture:
        again = picture.copy()
    assert again.mode == "RGB" and again.tobytes() == source.convert("RGB").tobytes()
    text = '<a href="../_images/a.png"><img alt="x" src="../_images/a.png" /></a><img src="https://example.org/a.png">'
    done = finish.with_pictures(text, {"a": (40, 30)})
    assert 'href="../_images/a.webp"' in done and 'src="../_images/a.webp" width="40" height="30" loading="lazy"' in done
    assert 'src="https://example.org/a.png"' in done and finish.with_pictures(done, {"a": (40, 30)}) == done


def test_the_icon_fonts_keep_what_occurs(tmp_path):
    (tmp_path / "_static/styles").mkdir(parents=True)
    (tmp_path / "_static/styles/a.css").write_text('.fa-bars:before{content:"\\f0c9"}.fa-ghost:before{content:"\\f6e2"}.x:after{content:"\uf105"}')
    (tmp_path / "a.html").write_text('<i class="fa-solid fa-bars"></i>')
    assert finish.icons(tmp_path) == {0xF0C9, 0xF105}
    finish.subset_icons(tmp_path)
    text = (tmp_path / "_static/styles/a.css").read_text()
    assert "fa-bars" in text and "x:after" in text and "fa-ghost" not in text


def test_the_sitemap_has_whole_addresses_and_comes_only_with_an_address(tmp_path):
    for page in ("index.html", "book/a b.html", "search.html"):
        (tmp_path / page).parent.mkdir(exist_ok=True)
        (tmp_path / page).write_text("")
    finish.for_search_engines(tmp_path, "")
    assert not (tmp_path / "sitemap.xml").exists() and "Sitemap" not in (tmp_path / "robots.txt").read_text()
    finish.for_search_engines(tmp_path, "https://example.org/course/")
    text = (tmp_path / "sitemap.xml").read_text()
    assert re.findall("<loc>(.*?)</loc>", text) == ["https://example.org/course/book/a%20b.html", "https://example.org/course/index.html"]
    assert "Sitemap: https://example.org/course/sitemap.xml" in (tmp_path / "robots.txt").read_text()
    finish.not_found(tmp_path, "https://example.org/course")
    assert 'href="https://example.org/course/"' in (tmp_path / "404.html").read_text()


@pytest.mark.parametrize(
    "entry, said",
    [
        ({"file": "99_none", "figure": "f", "able": "a"}, "there is no book/chapters/99_none.md"),
        ({"file": "02_depth"}, "expected a chapter with able, figure, file"),
    ],
)
def test_a_wrong_card_says_what_was_expected(entry, said):
    with pytest.raises(Trouble, match=said):
        gallery._complete(entry)


def test_a_card_whose_figure_is_gone_says_so():
    with pytest.raises(Trouble, match="has no figure fig-none"):
        gallery.figure({"file": "02_depth", "figure": "fig-none"})


# --- formulas --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def mathjax():
    site_of_the_course.install_assets()


def test_a_formula_is_set_with_what_a_screen_reader_reads():
    (line, display), css = (done := mathematics.typeset([("x < \\tfrac12", False), ("\\begin{aligned} a &= b \\end{aligned}", True)]))["formulas"], done["css"]
    assert "<mo>&lt;</mo><mstyle" in line and 'display="true"' not in line and 'aria-hidden="true"' in line
    assert 'display="true"' in display and "<mtable" in display
    assert "mjx-c1D465" in css and "url(offline/mathjax/fonts/" in css.replace('"', "")


@pytest.mark.parametrize(
    "tex, said",
    [(r"x + \nosuchmacro", r"Undefined control sequence \\nosuchmacro: x"), (r"\frac{1}", "Missing argument"), ("½", "no letter of MathJax's fonts: '½' in ½")],
)
def test_a_mistake_in_tex_stops_the_build(tex, said):
    with pytest.raises(Trouble, match=said):
        mathematics.typeset([("x", False), (tex, False)])


def test_formulas_of_pages_are_set_once_and_keep_their_letters(tmp_path, monkeypatch):
    monkeypatch.setattr(mathematics, "KEPT", tmp_path / "formulas.json")
    first = '<p><span class="math notranslate nohighlight">\\(x &lt; 1\\)</span> and <div id="equation-a" class="math notranslate nohighlight">\n<span class="eqno">(1)<a href="#a">#</a></span>\\[y\\]</div>'
    done, css = mathematics.set_formulas({"a": first})
    assert done["a"].count("<mjx-container") == 2 and "<mo>&lt;</mo>" in done["a"] and '<span class="eqno">(1)' in done["a"] and "\\(" not in done["a"]
    assert mathematics.set_formulas(done) == (done, css)
    _, more = mathematics.set_formulas({**done, "b": '<span class="math notranslate nohighlight">\\(z\\)</span>'})
    assert "mjx-c1D465" in more and "mjx-c1D467" in more and "mjx-c1D467" not in css
    asked = []
    monkeypatch.setattr(mathematics, "typeset", asked.append)
    mathematics.set_formulas({"a": first})
    assert asked == []


# --- scripts and style sheets ----------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path):
    (tmp_path / "_static/styles").mkdir(parents=True)
    (tmp_path / "chapters").mkdir()
    for name, text in {
        "_static/basic.css": "a { background: url(file.png) }",
        "_static/styles/theme.css": '@charset "UTF-8";\n@import "../basic.css";\nb { color: red }',
        "_static/course.css": "c { background: url('data:x') }\n@font-face { src: url(styles/f.woff2) }",
        "_static/documentation_options.js": "const DOCUMENTATION_OPTIONS = {};",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


USED = set("a b c mjx-c red color".split())


def test_style_sheets_become_one_in_their_order(site, monkeypatch):
    monkeypatch.setattr(finish, "KEPT_STYLES", site / "kept")
    links = '<link href="../_static/styles/theme.css?digest=1" rel="stylesheet" />\n<link rel="stylesheet" type="text/css" href="../_static/course.css?v=1" />'
    done = finish.with_styles(f"<head>{links}</head>", site / "chapters/a.html", site, "mjx-c { top: 0 }", USED)
    (name,) = re.findall(r'<link rel="stylesheet" href="../_static/(all-\w+.css)" />', done)
    text = (site / "_static" / name).read_text()
    assert done.count("<link") == 1 and "mjx-c" not in text
    assert [text.index(part) for part in ("url(file.png)", "color: red", "url('data:x')", "url(styles/f.woff2)")] == sorted(
        text.index(part) for part in ("url(file.png)", "color: red", "url('data:x')", "url(styles/f.woff2)")
    )
    assert "@charset" not in text and "@import" not in text
    assert finish.with_styles(done, site / "chapters/a.html", site, "", USED) == done
    with_formula = finish.with_styles(f"{links}<mjx-container>", site / "chapters/a.html", site, "mjx-c { top: 0 }", USED)
    (other,) = re.findall(r"all-\w+.css", with_formula)
    assert other != name and (site / "_static" / other).read_text().endswith("mjx-c { top: 0 }")


def test_rules_for_what_no_page_has_are_left_out(site, monkeypatch):
    monkeypatch.setattr(finish, "KEPT_STYLES", site / "kept")
    sheet = "a.seen { top: 0 } a.unseen { top: 1px } .made { top: 2px } [data-x=one] { top: 3px } nav > b { top: 4px } .tooltip-9 { top: 5px }"
    (site / "_static/page.js").write_text('element.classList.add("made")')
    used = finish.words(['<a class="seen" data-x="one">unseen</a>'], site)
    left = finish.purged(sheet, used)
    assert [f"top: {n}" in left for n in ("0", "1px", "2px", "3px", "4px", "5px")] == [True, False, True, True, False, True]
    (kept,) = (site / "kept").iterdir()
    kept.write_text("kept")
    assert finish.purged(sheet, used) == "kept" and finish.purged(sheet, used | {"unseen"}).count("unseen") == 1
    monkeypatch.setattr(finish, "PURGE", site / "none.cjs")
    (site / "none.cjs").write_text("process.exit(1)")
    with pytest.raises(Trouble, match="PurgeCSS failed"):
        finish.purged(sheet, used)


def test_scripts_come_after_the_text_and_the_search_stays_on_its_page(site):
    scripts = (
        '<link rel="preload" as="script" href="../_static/a.js" /><script src="../_static/documentation_options.js?v=1"></script>'
        '<script src="../_static/a.js?v=1"></script><script data-x="1" src="../_static/b.js"></script><script src="../searchindex.js"></script>'
        '<script src="../_static/widgets.js"></script></body>'
    )
    done = finish.with_scripts(scripts, site / "chapters/a.html", site)
    assert done.startswith("<script>const DOCUMENTATION_OPTIONS = {};</script><script>") and done.endswith("</script>\n</body>")
    assert '["../_static/a.js?v=1", "../_static/b.js"]' in done and "src=" not in done
    assert "searchindex" not in done and "widgets" not in done
    assert finish.with_scripts(done, site / "chapters/a.html", site) == done
    search = finish.with_scripts(scripts, site / "chapters/search.html", site)
    assert '<script defer src="../searchindex.js">' in search and "requestAnimationFrame" not in search
    figure = '<script type="application/vnd.jupyter.widget-view+json">{}</script>'
    assert "../_static/widgets.js" in finish.with_scripts(figure + scripts, site / "chapters/a.html", site)


def test_the_states_of_figures_are_fetched_later(site):
    state = json.dumps({"state": {"m": {"model_module": "anywidget", "state": {"_esm": "a <b> 'c' \\ é"}}}})
    view = '<script type="application/vnd.jupyter.widget-view+json">{"model_id": "m"}</script>'
    text = f'<script type="application/vnd.jupyter.widget-state+json">\n{state}\n</script><p>{view}</p>'
    done = finish.with_states(text, site / "chapters/a.html", site)
    (place,) = re.findall(r'data-module="anywidget" data-state="../(_static/state-\w+\.js)">{"model_id": "m"}<', done)
    script = (site / place).read_text(encoding="utf-8")
    assert "widget-state" not in done and json.loads(re.search(r"textContent: (.*)}\)\);$", script)[1]) == state
    assert finish.with_states(done, site / "chapters/a.html", site) == done


def test_the_theme_no_longer_lays_out_the_page_for_each_thing_that_scrolls(tmp_path):
    script = tmp_path / "_static/scripts/pydata-sphinx-theme.js"
    script.parent.mkdir(parents=True)
    script.write_text(f'all("pre"){finish.THRASHING},b(),c.tabIndex=0')
    finish.calm_theme(tmp_path)
    assert script.read_text() == 'all("pre"),b(),c.tabIndex=0'
    finish.calm_theme(tmp_path)  # done already
    script.write_text("all(x).forEach(e=>e.tabIndex=e.scrollWidth)")
    with pytest.raises(Trouble, match="in another way"):
        finish.calm_theme(tmp_path)
