// Starts Swagger UI over the description of the API.

/* global SwaggerUIBundle */
SwaggerUIBundle({ url: "/v1/openapi.json", dom_id: "#api", deepLinking: true, docExpansion: "list", validatorUrl: null });
