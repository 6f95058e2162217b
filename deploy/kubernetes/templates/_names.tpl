{{- define "labels" -}}
app.kubernetes.io/name: thingsvision
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}
{{- define "server.labels" -}}
app.kubernetes.io/name: thingsvision
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}
{{- define "gateway.labels" -}}
app.kubernetes.io/name: thingsvision
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end -}}
{{- define "server.name" -}}{{ .Release.Name }}-server{{- end -}}
{{- define "gateway.name" -}}{{ .Release.Name }}-gateway{{- end -}}
{{- define "claim.name" -}}{{ .Values.storage.existingClaim | default (printf "%s-weights" .Release.Name) }}{{- end -}}
