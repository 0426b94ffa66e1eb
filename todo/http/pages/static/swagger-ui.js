// Starts Swagger UI on the page's one element.
"use strict";

const page = document.getElementById("page");

// Swagger UI has a dark theme, and leaves it to the page to switch it on.
const dark = matchMedia("(prefers-color-scheme: dark)");
const applyTheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", applyTheme);
applyTheme();

SwaggerUIBundle({
  domNode: page,
  url: page.dataset.openapi,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  // The badge would send the document to another origin.
  validatorUrl: null,
});
