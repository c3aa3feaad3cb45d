{{- define "headstart.name" -}}
{{- $own := ternary .Release.Name (printf "%s-headstart" .Release.Name) (contains "headstart" .Release.Name) -}}
{{- default $own .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "headstart.metadata" -}}
name: {{ include "headstart.name" . }}
namespace: {{ .Release.Namespace }}
labels: {{- include "headstart.labels" . | nindent 2 }}
{{- end -}}

{{/* Pods are selected by `app` alone, as in deploy/headstart.yaml: so a release can take over what it applied. */}}
{{- define "headstart.labels" -}}
app: {{ include "headstart.name" . }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* What HEADSTART_POLICIES says of custom resources; empty where policies are files. */}}
{{- define "headstart.inCluster" -}}
{{- with .Values.policies.cluster -}}
{{ eq (toString .) "true" | ternary "cluster" (printf "cluster:%v" .) }}
{{- end -}}
{{- end -}}

{{/* The value of one setting: a map is written NAME=VALUE,NAME=VALUE. JSON, because a number is else 1e+06. */}}
{{- define "headstart.setting" -}}
{{- if kindIs "map" . -}}
{{- $pairs := list -}}
{{- range $name, $value := . }}{{ $pairs = append $pairs (printf "%s=%s" $name (include "headstart.setting" $value)) }}{{ end -}}
{{- join "," $pairs -}}
{{- else -}}
{{- kindIs "string" . | ternary . (toJson .) -}}
{{- end -}}
{{- end -}}

{{/* What the schema cannot say, or not in words that help. */}}
{{- define "headstart.check" -}}
{{- with .Values.prometheus -}}
{{- if not .url -}}
{{- fail "prometheus.url: found nothing; need the address of the metrics server, such as --set prometheus.url=http://prometheus.monitoring:9090" -}}
{{- end -}}
{{- $keys := omit .secret "name" -}}
{{- range $what, $key := $keys -}}
{{- if and $key (not $.Values.prometheus.secret.name) -}}
{{- fail (printf "prometheus.secret.%s: found the key %q and no Secret; need prometheus.secret.name" $what $key) -}}
{{- end -}}
{{- end -}}
{{- if and .secret.name (not (without (values $keys) "")) -}}
{{- fail (printf "prometheus.secret: found the Secret %q and none of its keys; need one at least, such as prometheus.secret.bearerToken=token" .secret.name) -}}
{{- end -}}
{{- end -}}
{{- with .Values.policies -}}
{{- $homes := list -}}
{{- range $home := list "files" "existingConfigMap" "cluster" -}}
{{- if get $.Values.policies $home }}{{ $homes = append $homes (printf "policies.%s" $home) }}{{ end -}}
{{- end -}}
{{- if ne (len $homes) 1 -}}
{{- fail (printf "policies: found %s; need exactly one of policies.files, policies.existingConfigMap, policies.cluster, such as --set-file policies.files.chat\\.yaml=chat.yaml" (join " and " $homes | default "none")) -}}
{{- end -}}
{{- end -}}
{{- with .Values.rbac.namespaces -}}
{{- if and $.Values.policies.cluster (not (has $.Values.policies.cluster .)) -}}
{{- fail (printf "policies.cluster: found %v, and rbac.namespaces gives rights in %s only; need one of them in policies.cluster, or rbac.namespaces empty" $.Values.policies.cluster (join ", " .)) -}}
{{- end -}}
{{- end -}}
{{- with .Values.podLabels -}}
{{- if hasKey . "app" -}}
{{- fail (printf "podLabels.app: found %q; need it left out: the chart sets it, and the service and the Deployment find the pod by it" .app) -}}
{{- end -}}
{{- end -}}
{{- with .Values.store -}}
{{- if and .existingClaim .postgresql.secret -}}
{{- fail (printf "store: found existingClaim %q and postgresql.secret %q; need one store: leave one of them empty" .existingClaim .postgresql.secret) -}}
{{- end -}}
{{- end -}}
{{- end -}}
