-- Any new value requests a reconcile now. It also clears a halted rollout and refused logins.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["tenure.dev/reconcile-requested-at"] = os.date("!%Y-%m-%dT%XZ")
return obj
