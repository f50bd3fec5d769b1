-- While it is suspended there is nothing to ask for but that it goes on.
local suspended = obj.spec.suspend == true
return {
  ["reconcile"] = {["disabled"] = suspended},
  ["suspend"] = {["disabled"] = suspended},
  ["resume"] = {["disabled"] = not suspended},
}
