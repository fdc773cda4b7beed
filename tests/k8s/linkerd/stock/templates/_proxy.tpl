{{- define "proxy" -}}
- name: linkerd-proxy
  image: proxy:1
  env:
    - name: LINKERD2_PROXY_LOG
      value: warn
    - name: LINKERD2_PROXY_INBOUND_PORTS
      value: {{ .inbound | quote }}
    - name: LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS
      valueFrom:
        configMapKeyRef:
          name: linkerd-identity-trust-roots
          key: ca-bundle.crt
    - name: LINKERD2_PROXY_IDENTITY_SVC_ADDR
      value: {{ .address }}
    - name: LINKERD2_PROXY_IDENTITY_SVC_NAME
      value: linkerd-identity.{{ .root.Release.Namespace }}.serviceaccount.identity.{{ .root.Release.Namespace }}.{{ .root.Values.clusterDomain }}
    {{- with .root.Values.proxy.additionalEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - name: linkerd-proxy
      containerPort: 4143
    - name: linkerd-admin
      containerPort: 4191
  readinessProbe:
    httpGet:
      path: /ready
      port: 4191
  securityContext:
    runAsUser: 2102
  volumeMounts:
    - name: linkerd-identity-end-entity
      mountPath: /var/run/linkerd/identity/end-entity
    - name: linkerd-identity-token
      mountPath: /var/run/secrets/tokens
{{- end }}

{{- define "volumes" -}}
- name: linkerd-identity-end-entity
  emptyDir:
    medium: Memory
- name: linkerd-identity-token
  projected:
    sources:
      - serviceAccountToken:
          path: linkerd-identity-token
          expirationSeconds: 86400
          audience: identity.l5d.io
{{- end }}
