// Sets formulas with MathJax, in Node: [{tex, display}, …] on standard input -> {formulas: [html, …], css} on standard output.
const read = () => JSON.parse(require("fs").readFileSync(0, "utf8"));

require("mathjax")
  .init({
    loader: {load: ["adaptors/liteDOM", "input/tex-full", "output/chtml", "a11y/assistive-mml"]},
    // Without the packages that print a mistake as if it were mathematics.
    tex: {packages: {"[-]": ["noundefined", "noerrors"]}},
    chtml: {fontURL: "offline/mathjax/fonts", adaptiveCSS: true},
    startup: {typeset: false},
  })
  .then((MathJax) => {
    const {adaptor} = MathJax.startup;
    // As large as the letters around it: the height of a small x is about half of the font's size.
    const size = {em: 16, ex: 8.2, containerWidth: 80 * 16};
    const formulas = read().map(({tex, display}) => adaptor.outerHTML(MathJax.tex2chtml(tex, {display, ...size})));
    process.stdout.write(JSON.stringify({formulas, css: adaptor.textContent(MathJax.chtmlStylesheet())}));
  })
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
