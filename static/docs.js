// Swagger UI over this service's own description. Without validatorUrl: null it would ask another host for a badge.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  validatorUrl: null,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
});
