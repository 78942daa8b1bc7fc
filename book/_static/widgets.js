// Interactive figures, which begin when they come near, or are touched or focused. Most need the widget manager (3.6 MB).
(() => {
  const root = (document.documentElement.dataset.content_root || "./") + "_static/offline/";

  // The widget manager finds its files beside the page, never on the network.
  window.require = {baseUrl: root};
  window.__jupyter_widgets_assets_path__ = root;

  const script = (src) =>
    new Promise((resolve, reject) => {
      const made = Object.assign(document.createElement("script"), {src, onload: resolve, onerror: reject});
      made.dataset.jupyterWidgetsCdn = root + "none/";
      document.head.append(made);
    });
  let loadingStates, loading;
  const states = (view) => (loadingStates ??= script(view.dataset.state)); // puts them into the page, where the manager looks for them
  const load = (view) => (loading ??= states(view).then(() => script(root + "require.js")).then(() => script(root + "embed-amd.js")));

  // An anywidget brings its own module, and needs of the manager no more than a place and its state.
  async function host(view, place) {
    await states(view);
    const saved = JSON.parse(document.querySelector("script[type='application/vnd.jupyter.widget-state+json']").textContent).state;
    const {state} = saved[JSON.parse(view.textContent).model_id];
    const values = {...state}, el = document.createElement("div"), style = document.createElement("style");
    const model = {get: (name) => values[name], set: (name, value) => (values[name] = value), save_changes() {}, on() {}, off() {}};
    el.className = "widget-subarea";
    el.hidden = true; // until it is drawn: its still holds the place
    style.textContent = state._css ?? "";
    place.after(style, el);
    const address = URL.createObjectURL(new Blob([state._esm], {type: "text/javascript"}));
    const {default: widget} = await import(address);
    URL.revokeObjectURL(address);
    await widget.initialize?.({model});
    await widget.render({model, el});
  }

  // What the widgets leave without a name.
  function name(box) {
    for (const slider of box.querySelectorAll(".widget-slider")) {
      const handle = slider.querySelector("[role=slider]"), label = slider.querySelector(".widget-label");
      const readout = slider.querySelector(".widget-readout");
      if (!handle || !label) continue;
      handle.setAttribute("aria-label", label.textContent);
      if (readout && handle.getAttribute("aria-valuetext") !== readout.textContent) handle.setAttribute("aria-valuetext", readout.textContent);
    }
  }

  function watch(view) {
    const box = view.parentElement, own = view.dataset.module === "anywidget";
    if (own) view.remove(); // the manager, if there is one for others, would draw it again
    let begun = false;
    const begin = () => {
      if (begun) return;
      begun = true;
      if (own) host(view, box.querySelector(".sp-still"));
      else load(view);
    };
    const near = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      near.disconnect();
      begin();
    }, {rootMargin: "600px"});
    near.observe(box);
    for (const event of ["pointerdown", "focusin"]) box.addEventListener(event, begin, {once: true});
    const drawn = new MutationObserver(() => {
      const figure = [...box.querySelectorAll(".sp-figure, .spp-chart")].some((each) => !each.closest(".sp-still"));
      if (figure) box.querySelector(".sp-still")?.remove();
      if (figure && own) {
        box.querySelector(".widget-subarea").hidden = false;
        drawn.disconnect(); // it names its parts itself
      } else name(box);
    });
    drawn.observe(box, {childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ["aria-valuenow", "aria-valuetext"]});
  }

  for (const view of document.querySelectorAll("script[type='application/vnd.jupyter.widget-view+json']")) watch(view);
})();
