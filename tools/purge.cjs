// Takes what nothing uses out of a style sheet, with PurgeCSS: {css, words} on standard input -> the rest on standard output.
const {PurgeCSS} = require("purgecss");

const {css, words} = JSON.parse(require("fs").readFileSync(0, "utf8"));
new PurgeCSS()
  .purge({
    content: [{raw: words.join(" "), extension: "txt"}],
    css: [{raw: css}],
    defaultExtractor: (text) => text.split(" "),
    safelist: {greedy: [/tooltip/, /popover/]}, // Bootstrap puts these names together
    keyframes: true,
    variables: false,
  })
  .then(([{css}]) => process.stdout.write(css))
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
