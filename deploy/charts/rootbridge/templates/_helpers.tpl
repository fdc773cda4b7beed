{{- define "rootbridge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "rootbridge.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "rootbridge.selectorLabels" -}}
app.kubernetes.io/name: {{ include "rootbridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "rootbridge.labels" -}}
{{ include "rootbridge.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "rootbridge.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "rootbridge.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* The name of an object without a namespace: two releases may stand in two namespaces. */}}
{{- define "rootbridge.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "rootbridge.fullname" .) }}
{{- end }}

{{- define "rootbridge.image" -}}
{{- $image := .image }}
{{- if $image.registry }}{{ $image.registry }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .root.Chart.AppVersion $image.tag }}{{ end }}
{{- end }}

{{- /* Not empty where this cluster's accounts log in to Vault's API. */}}
{{- define "rootbridge.vaultLogins" -}}
{{- if and .Values.vault.enabled .Values.vault.audience .Values.cluster.name }}true{{ end }}
{{- end }}

{{- /* Not empty where the server speaks to this cluster's API server. */}}
{{- define "rootbridge.speaks" -}}
{{- if and .Values.cluster.name (or .Values.authentication.enabled .Values.linkerd.enabled (include "rootbridge.vaultLogins" .) .Values.admin.serviceAccounts .Values.csrSigners .Values.podSigners .Values.bundleTargets .Values.istiodTls .Values.linkerdIssuers (include "rootbridge.certManager" .)) }}true{{ end }}
{{- end }}

{{- /* The namespaces of requests to cert-manager, as JSON; empty without one. */}}
{{- define "rootbridge.certManager" -}}
{{- $namespaces := list }}
{{- range $name, $entry := .Values.upstream }}
{{- if eq $entry.kind "cert-manager" }}
{{- $namespaces = append $namespaces (required (printf "upstream.%s.namespace: write the namespace of the requests" $name) $entry.namespace) }}
{{- end }}
{{- end }}
{{- with $namespaces | uniq | sortAlpha }}{{ toJson . }}{{ end }}
{{- end }}

{{- /* Where Linkerd's proxies find it. */}}
{{- define "rootbridge.linkerdName" -}}
{{- include "rootbridge.fullname" . }}-linkerd
{{- end }}

{{- /* Gives a role of a namespace to the server: {root, role, namespace}. */}}
{{- define "rootbridge.roleBinding" }}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .role }}
  namespace: {{ .namespace }}
  labels:
    {{- include "rootbridge.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .role }}
subjects:
  - kind: ServiceAccount
    name: {{ include "rootbridge.serviceAccountName" .root }}
    namespace: {{ .root.Release.Namespace }}
{{- end }}
