// Starts Swagger UI on the page's one element.
"use strict";

const page = document.getElementById("page");
const { openapi, mountedAt } = page.dataset;

// The document names no server, so Swagger UI would call the root of the host. Behind a path prefix the calls belong
// below it.
const Mounted = {
  statePlugins: {
    spec: {
      wrapActions: {
        updateJsonSpec: (update) => (spec) => update(mountedAt ? { servers: [{ url: mountedAt }], ...spec } : spec),
      },
    },
  },
};

// Swagger UI has a dark theme, and leaves it to the page to switch it on.
const dark = matchMedia("(prefers-color-scheme: dark)");
const applyTheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", applyTheme);
applyTheme();

SwaggerUIBundle({
  domNode: page,
  url: openapi,
  plugins: [Mounted],
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  // The badge would send the document to another origin.
  validatorUrl: null,
});
