{{/* Name of the objects: the release's, so that one namespace can hold several. */}}
{{- define "web-app.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that select the pods. They never change: a Deployment's selector can't. */}}
{{- define "web-app.selectorLabels" -}}
app: {{ include "web-app.name" . }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "web-app.labels" -}}
{{ include "web-app.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "web-app.databaseSecret" -}}
{{- default (printf "%s-database" (include "web-app.name" .)) .Values.database.existingSecret -}}
{{- end -}}
