// Command targets does what Prometheus does for consul_sd_configs, with Prometheus' own code: targets ADDRESS
// Prints a line whenever what is to be scraped changes: each target's id, datacenter, tags, metadata and address.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/consul"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"go.yaml.in/yaml/v2"
)

// One entry of consul_sd_configs; lists of services are asked for this often at most, 30 s unless told otherwise.
const entry = "server: %s\ntags: [metrics]\nrefresh_interval: 100ms\n"

func main() {
	var config consul.SDConfig
	check(yaml.Unmarshal(fmt.Appendf(nil, entry, os.Args[1]), &config))
	metrics := config.NewDiscovererMetrics(prometheus.NewRegistry(), nil)
	check(metrics.Register())
	discoverer, err := config.NewDiscoverer(discovery.DiscovererOptions{Metrics: metrics})
	check(err)
	updates := make(chan []*targetgroup.Group)
	go discoverer.Run(context.Background(), updates)
	for groups := range updates {
		for _, group := range groups {
			fmt.Println(group.Source, describe(group))
		}
	}
}

func describe(group *targetgroup.Group) string {
	var targets []string
	for _, labels := range group.Targets {
		var told []string
		for _, name := range []string{"service_id", "tags", "service_metadata_team", "health"} {
			told = append(told, string(labels["__meta_consul_"+model.LabelName(name)]))
		}
		targets = append(targets, fmt.Sprint(told, " ", labels[model.AddressLabel]))
	}
	slices.Sort(targets)
	return string(group.Labels["__meta_consul_dc"]) + ": " + strings.Join(targets, ", ")
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
