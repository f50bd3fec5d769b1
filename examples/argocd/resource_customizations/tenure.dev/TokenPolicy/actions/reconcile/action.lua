-- Any new value asks for a look now. It clears a halted rollout and refused logins, too.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["tenure.dev/reconcile-requested-at"] = os.date("!%Y-%m-%dT%XZ")
return obj
