package rekisteritest

// Within is Test with another patience, for backends that hang.
var Within = test

// RuleNames returns the names of all rules.
func RuleNames() []string {
	names := []string{neverNil.name, neverPanics.name, inTime.name, immutable.name}
	for _, r := range rules {
		names = append(names, r.name)
	}
	return names
}
