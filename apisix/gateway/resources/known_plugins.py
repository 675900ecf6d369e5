# SPDX-License-Identifier: Apache-2.0
"""The names of APISIX's own plugins. If one of them does not run here, that is a warning; any other name is an error."""

_NAMES = """
    ai ai-aliyun-content-moderation ai-aws-content-moderation ai-prompt-decorator ai-prompt-guard ai-prompt-template ai-proxy
    ai-proxy-multi ai-rag ai-rate-limiting ai-request-rewrite api-breaker attach-consumer-label authz-casbin authz-casdoor
    authz-keycloak aws-lambda azure-functions basic-auth batch-requests body-transformer brotli cas-auth chaitin-waf
    clickhouse-logger client-control consumer-restriction cors csrf datadog degraphql dubbo-proxy echo elasticsearch-logger
    error-log-logger example-plugin ext-plugin-post-req ext-plugin-post-resp ext-plugin-pre-req fault-injection file-logger
    forward-auth gm google-cloud-logging grpc-transcode grpc-web gzip hmac-auth http-dubbo http-logger inspect ip-restriction
    jwe-decrypt jwt-auth kafka-logger kafka-proxy key-auth lago ldap-auth limit-conn limit-count limit-req log-rotate loggly
    loki-logger mcp-bridge mocking multi-auth node-status ocsp-stapling opa openfunction openid-connect opentelemetry openwhisk
    prometheus proxy-buffering proxy-cache proxy-control proxy-mirror proxy-rewrite public-api real-ip redirect
    referer-restriction request-id request-validation response-rewrite rocketmq-logger saml-auth server-info
    serverless-post-function serverless-pre-function skywalking skywalking-logger sls-logger splunk-hec-logging syslog tcp-logger
    tencent-cloud-cls traffic-split ua-restriction udp-logger uri-blocker wolf-rbac workflow zipkin
"""

KNOWN_PLUGINS = frozenset(_NAMES.split())
