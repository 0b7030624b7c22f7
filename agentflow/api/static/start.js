// Shows the API's own description. The key is entered by "Authorize" and kept in this page only.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
});
