package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

const (
	openMetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8"
	// In place of Grafana's variables: for scrapes at events, which may lie minutes apart, and for those of a picture.
	longRate, shortRate = "10m", "15s"
	step                = time.Second
)

var queries = parser.NewParser(parser.Options{})

// Series in a database of Prometheus' own, and its engine.
type store struct {
	folder     string
	db         *tsdb.DB
	engine     *promql.Engine
	start, end time.Time
}

type point struct {
	at    time.Time
	value float64
}

type series struct {
	labels labels.Labels
	points []point
}

func load(folder string) (*store, error) {
	names, err := filepath.Glob(filepath.Join(folder, "*.txt"))
	if err != nil {
		return nil, err
	}
	if len(names) < 2 {
		return nil, fmt.Errorf("%s holds %d scrapes: at least two are needed", folder, len(names))
	}
	sort.Strings(names)
	temporary, err := os.MkdirTemp("", "monitoring-")
	if err != nil {
		return nil, err
	}
	db, err := tsdb.Open(temporary, nil, nil, tsdb.DefaultOptions(), nil)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(temporary))
	}
	s := &store{folder: temporary, db: db, engine: promql.NewEngine(promql.EngineOpts{
		MaxSamples:           10_000_000,
		Timeout:              time.Minute,
		LookbackDelta:        5 * time.Minute,
		EnableAtModifier:     true,
		EnableNegativeOffset: true,
		Parser:               queries,
	})}
	if err := s.append(names); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *store) close() {
	_ = s.db.Close()
	_ = os.RemoveAll(s.folder)
}

func (s *store) append(names []string) error {
	before := map[string]labels.Labels{}
	for _, name := range names {
		milliseconds, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(name), ".txt"), 10, 64)
		if err != nil {
			return fmt.Errorf("%s is no moment in milliseconds: %w", name, err)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		now := map[string]labels.Labels{}
		appender := s.db.Appender(context.Background())
		if err := parse(text, func(l labels.Labels, v float64) error {
			now[l.String()] = l
			_, err := appender.Append(0, l, milliseconds, v)
			return err
		}); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		// As Prometheus does with a series that the target does not show any more.
		for key, gone := range before {
			if _, there := now[key]; !there {
				if _, err := appender.Append(0, gone, milliseconds, math.Float64frombits(value.StaleNaN)); err != nil {
					return err
				}
			}
		}
		if err := appender.Commit(); err != nil {
			return err
		}
		before = now
		at := time.UnixMilli(milliseconds)
		if s.start.IsZero() {
			s.start = at
		}
		// A whole number of steps, so that the last scrape is seen.
		s.end = s.start.Add((at.Sub(s.start) + step - 1).Truncate(step))
	}
	return nil
}

// Takes every sample out of a scrape, with the labels of a target whose own labels are honoured.
func parse(text []byte, take func(labels.Labels, float64) error) error {
	p, err := textparse.New(text, openMetrics, labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return err
	}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, _, v := p.Series()
		var l labels.Labels
		p.Labels(&l)
		builder := labels.NewBuilder(l).Set("cluster", "site-1").Set("job", "tenure").Set("pod", "tenure-0").Set("instance", "10.0.0.1:8080")
		if !l.Has("namespace") {
			builder.Set("namespace", "tenure-system")
		}
		if err := take(builder.Labels(), v); err != nil {
			return err
		}
	}
}

// Puts values in place of Grafana's variables.
func filled(expr, rate string) string {
	return strings.NewReplacer("$cluster", ".*", "$job", ".*", "$namespace", ".*", "$policy", ".*", "$server", ".*",
		"$__rate_interval", rate).Replace(expr)
}

// Names the selectors of a query that find nothing, at no time.
func (s *store) missing(ctx context.Context, expr string) ([]string, error) {
	tree, err := queries.ParseExpr(filled(expr, longRate))
	if err != nil {
		return nil, err
	}
	missing := []string{}
	for _, selectors := range parser.ExtractSelectors(tree) {
		querier, err := s.db.Querier(s.start.UnixMilli(), s.end.UnixMilli())
		if err != nil {
			return nil, err
		}
		if found := querier.Select(ctx, false, nil, selectors...); !found.Next() {
			missing = append(missing, fmt.Sprint(selectors))
		}
		if err := querier.Close(); err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// Runs a query over the whole time. Only numbers are points.
func (s *store) query(ctx context.Context, expr, rate string) ([]series, error) {
	expr = filled(expr, rate)
	query, err := s.engine.NewRangeQuery(ctx, storage.Queryable(s.db), nil, expr, s.start, s.end, step)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	defer query.Close()
	matrix, err := query.Exec(ctx).Matrix()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	var all []series
	for _, one := range matrix {
		found := series{labels: one.Metric}
		for _, sample := range one.Floats {
			if !math.IsNaN(sample.F) && !math.IsInf(sample.F, 0) {
				found.points = append(found.points, point{time.UnixMilli(sample.T), sample.F})
			}
		}
		if len(found.points) > 0 {
			all = append(all, found)
		}
	}
	return all, nil
}

// Scrapes a running operator once a second, as long as it answers.
func scrape(url, folder, seconds string) error {
	count, err := strconv.Atoi(seconds)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	every := time.NewTicker(time.Second)
	defer every.Stop()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/openmetrics-text")
	for range count {
		<-every.C
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return nil
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			return nil
		}
		name := filepath.Join(folder, fmt.Sprintf("%d.txt", time.Now().UnixMilli()))
		if err := os.WriteFile(name, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
