package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
	"eckart/model/compress"
)

// cacheCommand is `eckart cache`.
type cacheCommand struct {
	List  cacheListCommand  `cmd:"" help:"List what is kept."`
	Clear cacheClearCommand `cmd:"" help:"Remove them all."`
}

// Help says more than the line in the list of commands.
func (cacheCommand) Help() string {
	return "What compressing finds out is kept in the user's cache directory, so that the next start need not: the text that a model wrote, statistics of its inputs, what errors cost (sensitivities), what each choice would lose (predictions), how fast the machine is (costs). At most 10 GiB are kept; what was not used for longest goes first."
}

// cacheListCommand is `eckart cache list`.
type cacheListCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// A cacheList is what `eckart cache list --json` prints.
type cacheList struct {
	Folder  string        `json:"folder"`
	Bytes   int64         `json:"bytes"`
	Limit   int64         `json:"limit"`
	Entries []cachedEntry `json:"entries"`
}

type cachedEntry struct {
	Kind   string    `json:"kind"` // statistics, text, sensitivities, predictions or costs
	Digest string    `json:"digest"`
	Text   string    `json:"text,omitempty"` // file or self
	Tokens int       `json:"tokens,omitempty"`
	Sites  int       `json:"sites,omitempty"`
	Bytes  int64     `json:"bytes"`
	Used   time.Time `json:"used"`
	Damage string    `json:"damage,omitempty"` // why it cannot be used
}

// Run lists what is kept, the latest used first.
func (c *cacheListCommand) Run(_ context.Context, env command.Env) error {
	store, err := launch.StatisticsStore()
	if err != nil {
		return err
	}
	entries, err := store.List()
	if err != nil {
		return err
	}
	list := cacheList{Folder: store.Dir, Limit: store.Limit, Entries: []cachedEntry{}}
	table := command.Table{{"digest        kind", "text", "tokens", "sites", "bytes", "used"}}
	for _, e := range entries {
		list.Bytes += e.Bytes
		one := cachedEntry{Kind: e.Kind, Digest: e.Digest, Text: e.Source, Tokens: e.Tokens, Sites: e.Sites, Bytes: e.Bytes, Used: e.Used}
		row := []string{e.Digest[:12] + "  " + e.Kind, "", "", "", launch.Bytes(e.Bytes).String(), e.Used.Format(time.DateTime)}
		var damaged *compress.DamagedError
		switch {
		case e.Damage != nil:
			one.Damage = e.Damage.Error()
			if row[1] = "damaged"; errors.As(e.Damage, &damaged) && damaged.Obsolete {
				row[1] = "of another version"
			}
		case e.Kind == compress.KindStatistics:
			row[1], row[2], row[3] = e.Source, strconv.Itoa(e.Tokens), strconv.Itoa(e.Sites)
		}
		list.Entries, table = append(list.Entries, one), append(table, row)
	}
	if c.JSON {
		return command.WriteJSON(env.Stdout, list)
	}
	if len(entries) > 0 {
		if err := table.Text(env.Stdout); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(env.Stdout, "%s holds %v of at most %v\n", store.Dir, launch.Bytes(list.Bytes), launch.Bytes(list.Limit))
	return err
}

// cacheClearCommand is `eckart cache clear`.
type cacheClearCommand struct{}

// Run removes all that is kept.
func (cacheClearCommand) Run(_ context.Context, env command.Env) error {
	store, err := launch.StatisticsStore()
	if err != nil {
		return err
	}
	n, bytes, err := store.Clear()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.Stdout, "removed %d files, %v\n", n, launch.Bytes(bytes))
	return err
}
