// Command lamina runs a node of a cluster that serves language models, and asks and manages one. DESIGN.md of this
// folder says what scripts may rely on.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"

	"lamina/node"
)

// Exit codes that scripts may rely on.
const (
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// commands is the whole command line. A field is a command, its type is in the file of that name.
type commands struct {
	Up      upCmd      `cmd:"" help:"Start a node: the first of a cluster, or one that has been in it before."`
	Join    joinCmd    `cmd:"" help:"Start a node that joins a cluster."`
	Add     addCmd     `cmd:"" help:"Add a model file to the cluster."`
	Rm      rmCmd      `cmd:"" help:"Remove a model from the cluster."`
	Ps      psCmd      `cmd:"" help:"List models and which node holds which layers."`
	Show    showCmd    `cmd:"" help:"Show a model in full."`
	Nodes   nodesCmd   `cmd:"" help:"List the nodes."`
	Run     runCmd     `cmd:"" help:"Ask a model, or chat with it; a model of the cluster or a file."`
	Drain   drainCmd   `cmd:"" help:"Have a node's layers served by others, so that it can be stopped."`
	Remove  removeCmd  `cmd:"" help:"Take a node that will not come back out of the cluster."`
	Bench   benchCmd   `cmd:"" help:"Measure how fast a server answers: Lamina, or any with the OpenAI API."`
	Token   tokenCmd   `cmd:"" help:"Join tokens."`
	Key     keyCmd     `cmd:"" help:"API keys."`
	Backup  backupCmd  `cmd:"" help:"Write what the cluster has agreed on to a file."`
	Restore restoreCmd `cmd:"" help:"Make the models and keys of a backup known."`
	Recover recoverCmd `cmd:"" help:"Go on with this node alone when most voters are lost for good."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run is main with its surroundings as arguments; it returns the exit code.
func run(args []string, in io.Reader, out, errOut io.Writer) int {
	parser := kong.Must(&commands{}, kong.Name("lamina"), kong.Description("Language models served by a cluster of machines. Every flag can be set by the variable beside it."),
		kong.DefaultEnvars("LAMINA"), kong.Vars{"data": node.DefaultData()}, kong.Writers(out, errOut))
	if len(args) == 0 {
		args = []string{"--help"}
	}
	cmd, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(errOut, "lamina: %v; lamina --help shows what there is\n", err)
		return exitUsage
	}
	switch err := cmd.Run(&app{in: in, out: out, err: errOut}); {
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case err != nil:
		fmt.Fprintln(errOut, "lamina:", explain(err))
		return exitFailure
	}
	return 0
}
