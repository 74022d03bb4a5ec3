{{/* The name of everything: Service, webhook configurations, Lease. The process is told it with --name. */}}
{{- define "bonafide.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (default .Chart.Name .Values.nameOverride) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (default .Chart.Name .Values.nameOverride) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What a Deployment selects by never changes while it lives. */}}
{{- define "bonafide.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "bonafide.labels" -}}
{{ include "bonafide.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "bonafide.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "bonafide.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* A digest wins over the tag, which is kept for people to read. */}}
{{- define "bonafide.image" -}}
{{- $tag := default (printf "v%s" .Chart.AppVersion) .Values.image.tag -}}
{{- .Values.image.repository }}:{{ $tag }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/*
The Secret that is mounted; none where the process reads and writes its own through the API server. cert-manager's is another than
that one: on the way from one mode to the other, two would write it.
*/}}
{{- define "bonafide.mountedCertificate" -}}
{{- if eq .Values.certificates.mode "certManager" }}
{{- printf "%s-cert-manager" (include "bonafide.fullname" .) }}
{{- else if eq .Values.certificates.mode "provided" }}
{{- .Values.certificates.provided.secretName }}
{{- end }}
{{- end }}

{{/* Namespaces that are not reviewed. kube-system and the release's own always are, also where the process is not told so. */}}
{{- define "bonafide.exemptNamespaces" -}}
{{- concat (list "kube-system" .Release.Namespace) (default list .Values.exemptNamespaces) | uniq | toJson }}
{{- end }}

{{/*
Namespaces outside of these that hold what pods and nodes need to start: DaemonSets of a CNI or CSI driver, and autoscalers. If every node is
replaced while Bonafide is down, what they wait for waits for them.
*/}}
{{- define "bonafide.neededNamespaces" -}}
{{- $exempt := include "bonafide.exemptNamespaces" . | fromJsonArray }}
{{- $found := list }}
{{- range (lookup "apps/v1" "DaemonSet" "" "").items }}
{{- $namespace := .metadata.namespace }}
{{- range .spec.template.spec.volumes }}
{{- if and .hostPath (regexMatch "^/(etc/cni|opt/cni|var/lib/kubelet/(plugins|plugins_registry))(/|$)" .hostPath.path) (not (has $namespace $exempt)) }}
{{- $found = append $found $namespace }}
{{- end }}
{{- end }}
{{- end }}
{{- range (lookup "apps/v1" "Deployment" "" "").items }}
{{- if and (regexMatch "(^|-)(cluster-autoscaler|karpenter)(-|$)" .metadata.name) (not (has .metadata.namespace $exempt)) }}
{{- $found = append $found .metadata.namespace }}
{{- end }}
{{- end }}
{{- $found | uniq | sortAlpha | toJson }}
{{- end }}

{{/* Pods of others in the release's namespace, by name: none of them is reviewed. */}}
{{- define "bonafide.otherPods" -}}
{{- $found := list }}
{{- range (lookup "v1" "Pod" .Release.Namespace "").items }}
{{- if ne (dig "labels" "app.kubernetes.io/instance" "" .metadata) $.Release.Name }}
{{- $found = append $found .metadata.name }}
{{- end }}
{{- end }}
{{- $found | sortAlpha | toJson }}
{{- end }}
