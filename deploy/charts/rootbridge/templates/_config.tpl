{{- /* The configuration: what the other values say, with `config` over it. */}}
{{- define "rootbridge.config" -}}
{{- $full := include "rootbridge.fullname" . }}
{{- $state := "/var/lib/rootbridge" }}
{{- $token := dict "label" .Values.hsm.tokenLabel }}
{{- with .Values.hsm.tokenSerial }}{{ $_ := set $token "serial" . }}{{ end }}
{{- $hsm := dict }}
{{- if eq .Values.hsm.mode "softhsm" }}
{{- $_ := set $token "pin_file" (printf "%s/softhsm/pin" $state) }}
{{- $hsm = dict "module" "/usr/lib/softhsm/libsofthsm2.so" "environment" (dict "SOFTHSM2_CONF" (printf "%s/softhsm/softhsm2.conf" $state)) }}
{{- else if eq .Values.hsm.mode "module" }}
{{- $_ := set $token "pin_file" (printf "/var/run/secrets/rootbridge/pin/%s" .Values.hsm.module.pin.key) }}
{{- $hsm = dict "module" (required "hsm.module.path: write the absolute path of your PKCS#11 module" .Values.hsm.module.path) }}
{{- with .Values.hsm.module.environment }}{{ $_ := set $hsm "environment" . }}{{ end }}
{{- else }}
{{- fail "hsm.mode: write `module` for your PKCS#11 module, or `softhsm` to evaluate: keys in files, no HSM" }}
{{- end }}
{{- $_ := set $hsm "tokens" (dict "main" $token) }}

{{- $names := list (printf "%s.%s.svc" $full .Release.Namespace) (printf "%s.%s" $full .Release.Namespace) (printf "%s.%s.svc.cluster.local" $full .Release.Namespace) $full "localhost" }}
{{- $names = concat $names .Values.service.extraNames }}
{{- $mesh := dict
  "address" "0.0.0.0:8443"
  "apis" (list "istio" "certificates" "bundles")
  "tls" (dict "trust_domain" .Values.trustDomain "dns" $names "ip" (list "127.0.0.1")) }}
{{- if .Values.authentication.renewByCertificate }}
{{- $_ := set $mesh "client_certificates" (dict "trust_domains" (list .Values.trustDomain)) }}
{{- end }}
{{- $operators := dict }}
{{- range $name, $operator := .Values.operators }}
{{- $_ := set $operators $name (dict "trust_domain" $.Values.trustDomain "credential_file" (printf "/var/run/secrets/rootbridge/operators/%s/%s" $name (default "token" $operator.key))) }}
{{- end }}
{{- if $operators }}{{ $_ := set $mesh "operators" (keys $operators | sortAlpha) }}{{ end }}
{{- $others := dig "listeners" "mesh" dict (.Values.config | default dict) }}
{{- if not (or $operators $others .Values.authentication.enabled .Values.authentication.renewByCertificate) }}
{{- /* Nobody may call for certificates on it. */}}
{{- $_ := set $mesh "apis" (list "bundles") }}
{{- end }}

{{- $ledger := dict "path" (printf "%s/ledger.db" $state) }}
{{- with .Values.ledger.url }}
{{- /* Each server's mark is on its own volume. */}}
{{- $ledger = dict "url" . "high_water_directory" $state }}
{{- if and $.Values.ledger.secretName $.Values.ledger.passwordKey }}
{{- $_ := set $ledger "password_file" (printf "/var/run/secrets/rootbridge/ledger/%s" $.Values.ledger.passwordKey) }}
{{- end }}
{{- end }}

{{- $config := dict
  "ledger" $ledger
  "hsm" $hsm
  "listeners" (dict "mesh" $mesh)
  "operators" $operators
  "admin" (dict "address" "0.0.0.0:9901")
  "log" (dict "format" "json") }}
{{- if not $operators }}{{ $config = omit $config "operators" }}{{ end }}

{{- if include "rootbridge.speaks" . }}
{{- $cluster := dict "trust_domain" .Values.trustDomain "aliases" .Values.cluster.aliases }}
{{- with .Values.cluster.namespaces }}{{ $_ := set $cluster "namespaces" . }}{{ end }}
{{- if or .Values.authentication.enabled .Values.linkerd.enabled (include "rootbridge.vaultLogins" .) .Values.admin.serviceAccounts }}
{{- $_ := set $cluster "authenticate" .Values.authentication.method }}
{{- end }}
{{- if .Values.authentication.enabled }}
{{- $_ := set $cluster "audiences" .Values.authentication.audiences }}
{{- with .Values.authentication.nodeAccounts }}{{ $_ := set $cluster "node_accounts" . }}{{ end }}
{{- $_ := set $mesh "clusters" (list .Values.cluster.name) }}
{{- $_ := set $mesh "default_cluster" .Values.cluster.name }}
{{- end }}
{{- if .Values.linkerd.enabled }}
{{- $_ := set $cluster "audiences" (merge (dict "linkerd" .Values.linkerd.audience) (get $cluster "audiences" | default dict)) }}
{{- end }}
{{- if include "rootbridge.vaultLogins" . }}
{{- $_ := set $cluster "audiences" (merge (dict "vault" .Values.vault.audience) (get $cluster "audiences" | default dict)) }}
{{- end }}
{{- if .Values.admin.serviceAccounts }}
{{- $_ := set $cluster "audiences" (merge (dict "admin" .Values.admin.audience) (get $cluster "audiences" | default dict)) }}
{{- end }}
{{- $_ := set $config "clusters" (dict .Values.cluster.name $cluster) }}
{{- end }}

{{- if .Values.vault.enabled }}
{{- $listener := dict "address" (printf "0.0.0.0:%v" .Values.vault.port) "apis" (list "vault") "tls" (dict "trust_domain" .Values.trustDomain "dns" $names "ip" (list "127.0.0.1")) }}
{{- if $operators }}{{ $_ := set $listener "operators" (keys $operators | sortAlpha) }}{{ end }}
{{- if include "rootbridge.vaultLogins" . }}
{{- $_ := set $listener "clusters" (list .Values.cluster.name) }}
{{- $_ := set $listener "default_cluster" .Values.cluster.name }}
{{- end }}
{{- $_ := set (get $config "listeners") "vault" $listener }}
{{- $vault := dict }}
{{- if .Values.vault.mounts }}
{{- $mounts := dict }}
{{- range $name, $mount := .Values.vault.mounts }}
{{- $_ := set $mounts $name (merge (deepCopy $mount) (dict "authority" $.Values.trustDomain)) }}
{{- end }}
{{- $_ := set $vault "mount" $mounts }}
{{- end }}
{{- if .Values.vault.tokenKey.secretName }}
{{- $_ := set $vault "token_key_file" (printf "/var/run/secrets/rootbridge/vault/%s" .Values.vault.tokenKey.key) }}
{{- else if gt (int .Values.replicaCount) 1 }}
{{- fail "vault.tokenKey.secretName: with several servers each must accept the others' tokens; make a Secret with `head -c 32 /dev/urandom` and name it" }}
{{- end }}
{{- if $vault }}{{ $_ := set $config "vault" $vault }}{{ end }}
{{- end }}

{{- if .Values.admin.enabled }}
{{- $admin := dict
  "address" (printf "0.0.0.0:%v" .Values.admin.port)
  "apis" (list "admin")
  "tls" (dict "trust_domain" .Values.trustDomain "dns" $names "ip" (list "127.0.0.1")) }}
{{- if $operators }}{{ $_ := set $admin "operators" (keys $operators | sortAlpha) }}{{ end }}
{{- $admins := list }}
{{- range .Values.admin.serviceAccounts }}
{{- $account := splitList "/" . }}
{{- $admins = append $admins (printf "spiffe://%s/ns/%s/sa/%s" $.Values.trustDomain (first $account) (last $account)) }}
{{- end }}
{{- if $admins }}
{{- $_ := set $admin "admins" $admins }}
{{- $_ := set $admin "clusters" (list (required "cluster.name: this cluster verifies the tokens of admin.serviceAccounts; name it" .Values.cluster.name)) }}
{{- $_ := set $admin "default_cluster" .Values.cluster.name }}
{{- end }}
{{- if not (or $admins $operators) }}
{{- fail "admin.serviceAccounts: nobody may use the operators' API; name service accounts here, or operators in `operators`" }}
{{- end }}
{{- $_ := set (get $config "listeners") "admin" $admin }}
{{- end }}

{{- if .Values.linkerd.enabled }}
{{- $linkerd := dict "control_namespace" .Values.linkerd.controlNamespace }}
{{- with .Values.linkerd.profile }}{{ $_ := set $linkerd "profile" . }}{{ end }}
{{- with .Values.linkerd.outageMargin }}{{ $_ := set $linkerd "outage_margin" . }}{{ end }}
{{- with .Values.linkerd.jitter }}{{ $_ := set $linkerd "jitter" . }}{{ end }}
{{- if .Values.linkerd.events }}{{ $_ := set $linkerd "events" true }}{{ end }}
{{- /* The server adds the name that proxies verify. */}}
{{- $_ := set (get $config "listeners") "linkerd" (dict
  "address" (printf "0.0.0.0:%v" .Values.linkerd.port)
  "apis" (list "linkerd")
  "clusters" (list (required "cluster.name: this cluster verifies the proxies' tokens; name it" .Values.cluster.name))
  "tls" (dict "trust_domain" .Values.trustDomain)
  "linkerd" $linkerd) }}
{{- end }}

{{- with .Values.rotation }}{{ $_ := set $config "rotation" . }}{{ end }}
{{- with .Values.watchers }}{{ $_ := set $config "watchers" . }}{{ end }}
{{- with .Values.admission }}{{ $_ := set $config "admission" . }}{{ end }}
{{- $here := dict "clusters" (list .Values.cluster.name) }}
{{- range $section, $entries := dict "csr_signers" .Values.csrSigners "pod_signers" .Values.podSigners "bundle_targets" .Values.bundleTargets }}
{{- if $entries }}
{{- $made := dict }}
{{- range $name, $entry := $entries }}
{{- $entry = merge (deepCopy $entry) $here }}
{{- if eq $section "bundle_targets" }}{{ $entry = merge $entry (dict "trust_domain" $.Values.trustDomain) }}{{ end }}
{{- $_ := set $made $name $entry }}
{{- end }}
{{- $_ := set $config $section $made }}
{{- end }}
{{- end }}
{{- if .Values.bundleTargets }}
{{- $_ := set $config "publisher" (dict "lease_namespace" .Release.Namespace "lease_name" (include "rootbridge.leaseName" .)) }}
{{- end }}
{{- range $section, $entries := dict "istiod_tls" .Values.istiodTls "linkerd_issuers" .Values.linkerdIssuers }}
{{- if $entries }}
{{- $made := dict }}
{{- range $name, $entry := $entries }}
{{- $_ := set $made $name (merge (deepCopy $entry) (dict "cluster" $.Values.cluster.name)) }}
{{- end }}
{{- $_ := set $config $section $made }}
{{- end }}
{{- end }}
{{- if .Values.upstream }}
{{- $made := dict }}
{{- range $name, $entry := .Values.upstream }}
{{- $entry = deepCopy $entry }}
{{- if eq $entry.kind "cert-manager" }}
{{- $entry = merge $entry (dict "cluster" (required "cluster.name: this cluster has the upstream CA; name it" $.Values.cluster.name)) }}
{{- end }}
{{- $_ := set $made $name $entry }}
{{- end }}
{{- $_ := set $config "upstream" $made }}
{{- end }}
{{- with .Values.authority }}{{ $_ := set $config "authority" (deepCopy .) }}{{ end }}
{{- $text := include "rootbridge.toml.table" (dict "path" "" "table" (mergeOverwrite $config (deepCopy .Values.config))) }}
{{- regexReplaceAll "\n{3,}" $text "\n\n" | trim }}
{{- end }}

{{- define "rootbridge.leaseName" -}}
{{- include "rootbridge.fullname" . }}-publisher
{{- end }}
