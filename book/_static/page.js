// What scrolls sideways within a page is a stop of the Tab key, so that the arrow keys can scroll it.
(() => {
  const WIDE = "table, pre, .math, mjx-container[display=true], .pst-scrollable-table-container, .cell_output .output";
  const scrolls = (element) => element.scrollWidth > element.clientWidth && /auto|scroll/.test(getComputedStyle(element).overflowX);
  const mark = (element, does) => {
    if (does && !element.hasAttribute("tabindex")) {
      element.tabIndex = 0;
      element.dataset.scrolls = "";
    } else if (!does && "scrolls" in element.dataset) {
      element.removeAttribute("tabindex");
      delete element.dataset.scrolls;
    }
  };
  // All are measured before one is changed: else the page would be laid out again for each.
  const markAll = (elements) => elements.map((element) => [element, scrolls(element)]).forEach(([element, does]) => mark(element, does));
  const sizes = new ResizeObserver((entries) => markAll(entries.map((entry) => entry.target)));
  const seen = new Set();
  const find = () => {
    for (const element of document.querySelectorAll(`article :is(${WIDE})`)) {
      if (!seen.has(element)) sizes.observe(element);
      seen.add(element);
    }
  };
  find();
  new MutationObserver(find).observe(document.querySelector("article") || document.body, {childList: true, subtree: true});

  // What is far below is not laid out yet, and nobody observes its size. Who moves by keyboard needs it now.
  let stale = true;
  addEventListener("resize", () => (stale = true));
  addEventListener("keydown", ({key}) => {
    if (key === "Tab" && stale) markAll([...seen].filter((element) => element.isConnected));
    if (key === "Tab") stale = false;
  }, {capture: true});
})();
