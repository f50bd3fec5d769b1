{{- define "tenure.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 44 | trimSuffix "-" }}
{{- end }}

{{/* Short enough for the longest name made of it, a Job's: that becomes a label of its Pods, of 63 characters at most. */}}
{{- define "tenure.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- $default := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $default .Values.fullnameOverride | trunc 44 | trimSuffix "-" }}
{{- end }}

{{- define "tenure.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* For roles: those of two releases meet in the cluster, or in a namespace that is neither's. */}}
{{- define "tenure.roleName" -}}
{{- printf "%s:%s" (include "tenure.namespace" .) (include "tenure.fullname" .) }}
{{- end }}

{{- define "tenure.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tenure.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* The Pods of the Deployment, without those of the Job that stops it. */}}
{{- define "tenure.operatorLabels" -}}
{{ include "tenure.selectorLabels" . }}
app.kubernetes.io/component: operator
{{- end }}

{{/* Merged, because a key that came twice would be no YAML. */}}
{{- define "tenure.labels" -}}
{{- $own := include "tenure.selectorLabels" . | fromYaml }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service }}
{{- merge $own (default dict .Values.commonLabels) | toYaml }}
{{- end }}

{{/* Labels of the Pods of a component: the list of the root and its name. */}}
{{- define "tenure.podLabels" -}}
{{- $root := index . 0 }}
{{- $own := include "tenure.labels" $root | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/component" (index . 1) }}
{{- merge $own (default dict $root.Values.podLabels) | toYaml }}
{{- end }}

{{/* Labels of an object: the list of the root and of what a value adds. */}}
{{- define "tenure.moreLabels" -}}
{{- merge (include "tenure.labels" (index . 0) | fromYaml) (default dict (index . 1)) | toYaml }}
{{- end }}

{{- define "tenure.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "tenure.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* A parent chart may name the registry for all images: it takes precedence. */}}
{{- define "tenure.image" -}}
{{- with .Values.image }}
{{- $registry := default .registry ($.Values.global | default dict).imageRegistry | default "" | trimSuffix "/" }}
{{- if not .repository }}
{{- fail "image.repository must name an image of the operator that your cluster can pull, such as registry.example/tenure: no image is published yet. Build one and push it to your registry, as docs/image.md describes" }}
{{- end }}
{{- $repository := ternary (printf "%s/%s" $registry .repository) .repository (not (empty $registry)) }}
{{- if .digest }}
{{- printf "%s@%s" $repository .digest }}
{{- else }}
{{- printf "%s:%s" $repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The chart's own and those of all charts, which may be names alone. */}}
{{- define "tenure.imagePullSecrets" -}}
{{- $secrets := .Values.imagePullSecrets | default list }}
{{- range (.Values.global | default dict).imagePullSecrets }}
{{- $secrets = append $secrets (ternary (dict "name" .) . (kindIs "string" .)) }}
{{- end }}
{{- with $secrets | uniq }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- define "tenure.leaseName" -}}
{{- default (include "tenure.fullname" .) .Values.leaderElection.leaseName }}
{{- end }}

{{- define "tenure.leaseNamespace" -}}
{{- default (include "tenure.namespace" .) .Values.leaderElection.leaseNamespace }}
{{- end }}

{{/* What the operator and the Job that cleans up after it work on. */}}
{{- define "tenure.scopeArgs" -}}
{{- with .Values.rbac.namespaces }}
- --namespaces={{ join "," . }}
{{- end }}
{{- with .Values.operator.selector }}
- {{ printf "--selector=%s" . | quote }}
{{- end }}
{{- end }}

{{/* Labels that the selector selects, as JSON; nothing where it is more than a list of equalities, or none. */}}
{{- define "tenure.selectedLabels" -}}
{{- $selector := default "" .Values.operator.selector | replace " " "" }}
{{- if regexMatch "^[-\\w./]+==?[-\\w.]*(,[-\\w./]+==?[-\\w.]*)*$" $selector }}
{{- $labels := dict }}
{{- range splitList "," $selector }}
{{- $pair := regexSplit "==?" . 2 }}
{{- $_ := set $labels (first $pair) (last $pair) }}
{{- end }}
{{- toJson $labels }}
{{- end }}
{{- end }}

{{/* The whole of what tests/kit/src/access.rs lists, and nothing else. */}}
{{- define "tenure.rules" -}}
- apiGroups: [tenure.dev]
  resources: [x2gateways, tokenpolicies, konaservers, customertokenttls]
  verbs: [get, list, watch, patch]
- apiGroups: [tenure.dev]
  resources: [x2gateways/status, tokenpolicies/status, konaservers/status, customertokenttls/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- with .Values.rbac.secretNames }}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{ toJson . }}
  verbs: [get]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
{{- else }}
- apiGroups: [""]
  resources: [{{ if ne .Values.rbac.secrets "optIn" }}secrets, {{ end }}configmaps]
  verbs: [get]
{{- end }}
- apiGroups: [""]
  resources: [namespaces]
  # Their end takes away rights that are in them.
  verbs: [get{{ if .Values.rbac.namespaces }}, watch{{ end }}]
{{- end }}

{{- define "tenure.releaseFinalizers.name" -}}
{{- printf "%s-release-finalizers" (include "tenure.fullname" .) }}
{{- end }}

{{- define "tenure.releaseFinalizers.annotations" -}}
helm.sh/hook: pre-delete
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{- define "tenure.releaseFinalizers.rules" -}}
- apiGroups: [tenure.dev]
  resources: [x2gateways, tokenpolicies, konaservers, customertokenttls]
  verbs: [list, patch]
{{- end }}
