package rekisteritest

var (
	CloneListing = cloneListing
	CloneRelease = cloneRelease
	CloneReceipt = cloneReceipt
)

// RuleNames returns the names of all rules of Test.
func RuleNames() []string { return namesOf(rules) }

// PublishRuleNames returns the names of all rules of TestPublisher.
func PublishRuleNames() []string { return namesOf(publishRules) }

func namesOf(rules []rule) []string {
	var names []string
	for _, r := range callRules {
		names = append(names, r.name)
	}
	for i := range rules {
		names = append(names, rules[i].name)
	}
	return names
}
