// Starts ReDoc on the page's one element.
"use strict";

const page = document.getElementById("page");

// ReDoc shows a logo that it loads from its makers' origin, in both ways in which an image takes its URL. The policy of
// this page allows no other origin, so an icon from this one stands in.
const REMOTE_LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg";
const localUrl = (url) => (url === REMOTE_LOGO ? page.dataset.logo : url);
const image = HTMLImageElement.prototype;
const { setAttribute } = image;
const src = Object.getOwnPropertyDescriptor(image, "src");
image.setAttribute = function (name, value) {
  setAttribute.call(this, name, localUrl(value));
};
Object.defineProperty(image, "src", {
  ...src,
  set(url) {
    src.set.call(this, localUrl(url));
  },
});

// ReDoc's own fonts would come from another origin too; these are installed on the reader's system.
const sans = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
const mono = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace";

Redoc.init(
  page.dataset.openapi,
  {
    expandResponses: "200,201",
    nativeScrollbars: true,
    theme: {
      // The contrast of ReDoc's own red on the dark panel is too low.
      colors: { responses: { error: { tabTextColor: "#e9403d" } } },
      spacing: { sectionVertical: 24 },
      typography: { fontFamily: sans, headings: { fontFamily: sans }, code: { fontFamily: mono } },
    },
  },
  page,
);
