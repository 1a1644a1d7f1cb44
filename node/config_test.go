package node

import (
	"errors"
	"strings"
	"testing"
)

func TestConfigNamesWhatCannotWork(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Fatalf("the defaults do not work: %v", err)
	}
	for _, c := range []struct {
		set  func(*Config)
		name string
	}{
		{func(c *Config) { c.Name = "Upper" }, "name"},
		{func(c *Config) { c.Name = "" }, "name"},
		{func(c *Config) { c.Name = strings.Repeat("a", 64) }, "name"},
		{func(c *Config) { c.Name = "../n1" }, "name"},
		{func(c *Config) { c.Data = "" }, "data"},
		{func(c *Config) { c.Peer = "localhost" }, "peer"},
		{func(c *Config) { c.Peer = "0.0.0.0:7946" }, "peer"},
		{func(c *Config) { c.Peer = "[::]:7946" }, "peer"},
		{func(c *Config) { c.Peer = ":7946" }, "peer"},
		{func(c *Config) { c.Peer = "10.0.0.1:99999" }, "peer"},
		{func(c *Config) { c.HTTP = "8080" }, "http"},
		{func(c *Config) { c.Memory = -1 }, "memory"},
		{func(c *Config) { c.Threads = -2 }, "threads"},
		{func(c *Config) { c.OTLP = "127.0.0.1:4318" }, "otlp"},
	} {
		cfg := Default()
		c.set(&cfg)
		if err := cfg.Validate(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
