package server

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

const monitoring = "../../docs/monitoring/"

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// dashboardQueries returns the queries of the dashboard, as Prometheus gets them.
func dashboardQueries(t *testing.T) (queries []string) {
	var dashboard struct {
		Panels []struct {
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal([]byte(readFile(t, monitoring+"dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			queries = append(queries, strings.NewReplacer("$__rate_interval", "5m", "$job", ".*").Replace(target.Expr))
		}
	}
	return queries
}

// TestMonitoringNames compares the metrics of the command with those in the docs,
// the alerts and the dashboard.
func TestMonitoringNames(t *testing.T) {
	x, _ := newExporter(t, rekisteri.Options{})
	exported := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\w+) `).FindAllStringSubmatch(string(x.text(t.Context())), -1) {
		exported[m[1]] = true
	}
	doc := readFile(t, "../../docs/monitoring.md")
	documented := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+_\\w+)` \\|.*\\|.*\\|$").FindAllStringSubmatch(doc, -1) {
		if !slices.Contains(metricReasons, m[1]) {
			documented[m[1]] = true
		}
	}
	if !maps.Equal(exported, documented) {
		t.Errorf("the command has\n%q\nthe docs have\n%q", slices.Sorted(maps.Keys(exported)), slices.Sorted(maps.Keys(documented)))
	}
	for _, values := range [][]string{metricRoutes, metricMethods, metricReasons, metricResults} {
		for _, value := range values {
			if !strings.Contains(doc, "`"+value+"`") {
				t.Errorf("the docs do not have the label %q", value)
			}
		}
	}
	for name, text := range map[string]string{"alerts.yml": readFile(t, monitoring+"alerts.yml"), "dashboard.json": strings.Join(dashboardQueries(t), "\n")} {
		used := regexp.MustCompile(`\b(rekisteri|go|process)_\w+`).FindAllString(text, -1)
		if len(used) == 0 {
			t.Errorf("%s uses no metric", name)
		}
		for _, metric := range used {
			histogram := strings.TrimSuffix(strings.TrimSuffix(metric, "_bucket"), "_count")
			if !exported[metric] && !exported[histogram] {
				t.Errorf("%s uses %s, which the command does not have", name, metric)
			}
		}
	}
}

// TestAlerts has promtool test the alerts. Each one fires in a test, and is in
// the docs.
func TestAlerts(t *testing.T) {
	rules, tests, doc := readFile(t, monitoring+"alerts.yml"), readFile(t, monitoring+"alerts_test.yml"), readFile(t, "../../docs/monitoring.md")
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(rules, -1)
	if len(alerts) == 0 {
		t.Error("there are no alerts")
	}
	for _, m := range alerts {
		if !regexp.MustCompile(`- alertname: ` + m[1] + `\n +eval_time: .*\n +exp_alerts:\n +- exp_labels:`).MatchString(tests) {
			t.Errorf("%s does not fire in a test", m[1])
		}
		if !strings.Contains(tests, "{ alertname: "+m[1]+", ") {
			t.Errorf("there is no test that %s does not fire when all is well", m[1])
		}
		if !strings.Contains(doc, "| `"+m[1]+"` |") {
			t.Errorf("%s is not in the docs", m[1])
		}
	}
	if testing.Short() {
		t.Skip("promtool test rules takes a second")
	}
	cmd := exec.CommandContext(t.Context(), promtool(t), "test", "rules", "alerts_test.yml")
	cmd.Dir = monitoring
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool test rules: %v\n%s", err, out)
	}
}

// TestDashboardQueries has promtool parse the queries.
func TestDashboardQueries(t *testing.T) {
	tool, rules := promtool(t), "groups:\n- name: dashboard\n  rules:\n"
	for i, query := range dashboardQueries(t) {
		rules += fmt.Sprintf("  - {record: query%d, expr: %q}\n", i, query)
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	servertest.WriteFile(t, file, rules)
	if out, err := exec.CommandContext(t.Context(), tool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
}
