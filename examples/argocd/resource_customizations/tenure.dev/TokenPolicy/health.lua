-- The resource follows kstatus: observedGeneration, and the conditions Ready, Reconciling and Stalled.
-- https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
-- The same file serves X2Gateway, TokenPolicy, KonaServer and CustomerTokenTtl.
local waiting = {status = "Progressing", message = "Waiting for tenure to reconcile this spec."}
local generation = obj.metadata.generation
if obj.status == nil or obj.status.conditions == nil or obj.status.observedGeneration ~= generation then
  return waiting
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  if condition.observedGeneration ~= generation then
    return waiting
  end
  conditions[condition.type] = condition
end

local function is_true(name)
  return conditions[name] ~= nil and conditions[name].status == "True"
end

if is_true("Suspended") then
  return {status = "Suspended", message = conditions["Suspended"].message}
end
if is_true("Stalled") then
  return {status = "Degraded", message = conditions["Stalled"].message}
end
if is_true("Reconciling") then
  return {status = "Progressing", message = conditions["Reconciling"].message}
end
if is_true("Ready") then
  return {status = "Healthy", message = conditions["Ready"].message}
end
return waiting
