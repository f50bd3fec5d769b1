-- A suspended resource only offers the action resume.
local suspended = obj.spec.suspend == true
return {
  ["reconcile"] = {["disabled"] = suspended},
  ["suspend"] = {["disabled"] = suspended},
  ["resume"] = {["disabled"] = not suspended},
}
