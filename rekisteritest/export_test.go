package rekisteritest

var (
	CloneListing = cloneListing
	CloneRelease = cloneRelease
)

// RuleNames returns the names of all rules.
func RuleNames() []string {
	var names []string
	for _, r := range callRules {
		names = append(names, r.name)
	}
	for i := range rules {
		names = append(names, rules[i].name)
	}
	return names
}
