{{- /* JSON's strings, numbers and arrays of them are TOML's too. Helm's own toToml writes whole
numbers as floats. */}}
{{- define "rootbridge.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toJson . }}{{ end }}
{{- end }}

{{- define "rootbridge.toml.value" -}}
{{- if kindIs "map" . }}
{{- $pairs := list }}
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}
{{- $pairs = append $pairs (printf "%s = %s" (include "rootbridge.toml.key" $key) (include "rootbridge.toml.value" $value)) }}
{{- end }}
{{- end }}
{{- printf "{ %s }" (join ", " $pairs) }}
{{- else if kindIs "slice" . }}
{{- $items := list }}
{{- range . }}
{{- $items = append $items (include "rootbridge.toml.value" .) }}
{{- end }}
{{- printf "[%s]" (join ", " $items) }}
{{- else }}
{{- toJson . }}
{{- end }}
{{- end }}

{{- /* A table, under its header, with the tables below it: {path, table}. */}}
{{- define "rootbridge.toml.table" -}}
{{- $path := .path }}
{{- $own := list }}
{{- $below := list }}
{{- range $key, $value := .table }}
{{- $name := include "rootbridge.toml.key" $key }}
{{- if kindIs "map" $value }}
{{- $at := $name }}
{{- if $path }}{{ $at = printf "%s.%s" $path $name }}{{ end }}
{{- $below = append $below (include "rootbridge.toml.table" (dict "path" $at "table" $value)) }}
{{- else if not (kindIs "invalid" $value) }}
{{- $own = append $own (printf "%s = %s" $name (include "rootbridge.toml.value" $value)) }}
{{- end }}
{{- end }}
{{- if and $path (or $own (not $below)) }}
{{ printf "[%s]" $path }}
{{- end }}
{{- range $own }}
{{ . }}
{{- end }}
{{- range $below }}
{{ . }}
{{- end }}
{{- end }}
