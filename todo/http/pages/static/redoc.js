// Starts ReDoc on the page's one element.
"use strict";

const page = document.getElementById("page");

// ReDoc's own fonts would come from another origin; these are the reader's.
const sans = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
const mono = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace";

Redoc.init(
  page.dataset.openapi,
  {
    expandResponses: "200,201",
    nativeScrollbars: true,
    theme: {
      // ReDoc's own red can hardly be read on the dark panel.
      colors: { responses: { error: { tabTextColor: "#e9403d" } } },
      spacing: { sectionVertical: 24 },
      typography: { fontFamily: sans, headings: { fontFamily: sans }, code: { fontFamily: mono } },
    },
  },
  page,
);
