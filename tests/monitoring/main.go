// Runs the queries of the dashboard and of the alerts against metrics of a running operator, by Prometheus' own engine,
// and draws the dashboard from them. The metrics are a folder of scrapes: what /metrics has said, one file a moment,
// named after it in Unix milliseconds (1795342000000.txt).
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

const usage = `usage:
  monitoring check DASHBOARD ALERTS SCRAPES    runs every query; prints what came of it as JSON, one line each
  monitoring draw DASHBOARD SCRAPES            prints the dashboard as SVG
  monitoring scrape URL SCRAPES SECONDS        scrapes once a second`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "monitoring:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 4 && arguments[0] == "check":
		return check(arguments[1], arguments[2], arguments[3])
	case len(arguments) == 3 && arguments[0] == "draw":
		return draw(arguments[1], arguments[2])
	case len(arguments) == 4 && arguments[0] == "scrape":
		return scrape(arguments[1], arguments[2], arguments[3])
	}
	return fmt.Errorf("%s", usage)
}

// What came of a query.
type finding struct {
	// Title of the panel, or name of the variable, the annotation or the alert.
	Of string `json:"of"`
	// panel, variable, annotation or alert
	Kind string `json:"kind"`
	Expr string `json:"expr"`
	// How many series it gives, over the whole time.
	Series int `json:"series"`
	// How many samples of them are numbers.
	Samples int `json:"samples"`
	// Selectors in it that find no series at all: metrics, labels or words that do not exist.
	Missing []string `json:"missing"`
}

func check(dashboardFile, alertsFile, scrapes string) error {
	dashboard, err := readDashboard(dashboardFile)
	if err != nil {
		return err
	}
	alerts, err := readAlerts(alertsFile)
	if err != nil {
		return err
	}
	store, err := load(scrapes)
	if err != nil {
		return err
	}
	defer store.close()
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for _, query := range append(dashboard.queries(), alerts...) {
		// A zero in place of nothing would hide that there is nothing.
		expr := strings.TrimSuffix(query.Expr, " or vector(0)")
		series, err := store.query(context.Background(), expr, longRate)
		if err != nil {
			return fmt.Errorf("%s: %w", query.Of, err)
		}
		if query.Missing, err = store.missing(context.Background(), expr); err != nil {
			return fmt.Errorf("%s: %w", query.Of, err)
		}
		query.Series = len(series)
		for _, one := range series {
			query.Samples += len(one.points)
		}
		if err := out.Encode(query); err != nil {
			return err
		}
	}
	return nil
}
