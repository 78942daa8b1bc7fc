// Runs before require.js and the widget manager.
(() => {
  // The widget manager finds its files beside the page, never on the network.
  const root = (document.documentElement.dataset.content_root || "./") + "_static/offline/";
  window.require = { baseUrl: root };
  window.__jupyter_widgets_assets_path__ = root;

  // The theme's FontAwesome would replace icons that a Play widget holds on to.
  window.FontAwesomeConfig = { observeMutations: false };

  // The widget manager asks for mathematics as MathJax 2 did; pass that on to MathJax 3.
  const hub = { Queue: (job) => window.MathJax.typesetPromise?.([job[2]]) };
  const config = (window.MathJax = window.MathJax || {});
  config.Hub = hub;
  config.startup = {
    ready() {
      window.MathJax.startup.defaultReady();
      window.MathJax.Hub = hub;
    },
  };
})();
