// Package launch brings a model up for the commands: it opens the checkpoint, plans memory before anything is allocated,
// binds the weights to a device, and makes an engine. It owns the order of these steps and what the user is told about
// them.
package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/kernels/cuda"
	"eckart/kvcache"
	"eckart/model"
	"eckart/model/tokenizer"
	"eckart/model/tokenizer/chat"
	"eckart/runtime"
)

// defaultQueue is how many requests may wait when the user says nothing.
const defaultQueue = 128

// Options are the user's choices. Zero stands for "choose" in all of them.
type Options struct {
	Sizing
	Device      DeviceChoice
	Threads     int
	Activations cpu.Activations
	Queue       int            // waiting requests beyond which more are refused
	Template    string         // file with a chat template to use instead of the checkpoint's
	Compress    *CompressFlags // how the model is compressed; nil for not at all
	Progress    io.Writer      // terminal for a progress bar; nil for none
	Stage       func(string)   // hears what start-up is at; may be nil
	Logger      *slog.Logger
}

// An Instance is a model on a device, with an engine over it. Run the engine; then Close.
type Instance struct {
	Model     *Model
	Tokenizer *tokenizer.Tokenizer
	Template  *chat.Template // nil when the model has none
	Device    kernels.Device
	NoGPU     error // why no GPU runs the model, where that was not the user's choice
	Threads   int   // of the processor, for what the host computes
	Stream    kernels.Stream
	Plan      Plan
	Decoder   *model.Decoder
	Batch     *model.Batch
	Cache     *kvcache.Cache
	Engine    *runtime.Engine
	Queue     int

	arenas []kernels.Arena
	held   int64 // bytes of the arenas
}

// Start brings m up. It takes over nothing: m stays the caller's, and may be closed once Start has returned. On an
// error nothing stays allocated. Compression, which takes minutes, ends when ctx does.
func Start(ctx context.Context, m *Model, o Options) (*Instance, error) {
	i := &Instance{Model: m, Queue: o.Queue}
	if i.Queue == 0 {
		i.Queue = defaultQueue
	}
	if err := i.start(ctx, o); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

func (i *Instance) start(ctx context.Context, o Options) error {
	var err error
	// The small files first: what is wrong with them should not wait for the weights.
	if i.Tokenizer, err = i.Model.Tokenizer(); err != nil {
		return err
	}
	if n := i.Tokenizer.VocabSize(); n > i.Model.Config.Vocab {
		return fmt.Errorf("open model: tokenizer.json has %d ids and config.json a vocab_size of %d", n, i.Model.Config.Vocab)
	}
	if i.Template, err = i.Model.Template(o.Template); err != nil && !errors.Is(err, chat.ErrNone) {
		return err
	}

	if o.Threads == 0 {
		o.Threads = cpu.DefaultThreads()
	}
	i.Threads = o.Threads
	if i.Device, i.NoGPU, err = openDevice(o); err != nil {
		return err
	}
	if o.Compress != nil && o.Compress.Asked() {
		if err := o.Compress.compress(ctx, i.Model, i.Device, &o); err != nil {
			return err
		}
	}
	free, _ := i.Device.Memory()
	if i.Plan, err = i.Model.Plan(o.Sizing, free); err != nil {
		return err
	}
	if i.Stream, err = i.Device.NewStream(); err != nil {
		return err
	}
	if err := i.load(o.Progress); err != nil {
		return err
	}
	i.Engine, err = runtime.New(runtime.Options{
		Stream: i.Stream, Decoder: i.Decoder, Batch: i.Batch, Cache: i.Cache, Tokenizer: i.Tokenizer,
		Context: i.Plan.Context, Slots: i.Plan.Slots, StepTokens: i.Plan.StepTokens, Queue: i.Queue,
		EOS: i.Model.EOS(), Logger: o.Logger,
	})
	return err
}

// load fills the three arenas: weights, cache, workspace.
func (i *Instance) load(progress io.Writer) error {
	weights, err := i.arena(i.Plan.Weights)
	if err != nil {
		return err
	}
	var update func(done, total int64)
	if progress != nil {
		bar := newProgressBar(progress, i.Model.loading())
		defer bar.finish()
		update = bar.update
	}
	if i.Decoder, err = model.Load(i.Model.Source, weights, i.Stream, update); err != nil {
		return i.Model.refusal(err)
	}
	cache, err := i.arena(i.Plan.Cache)
	if err != nil {
		return err
	}
	if i.Cache, err = kvcache.New(cache, i.Plan.Specs, i.Plan.CacheType, blockTokens, i.Plan.Blocks); err != nil {
		return err
	}
	workspace, err := i.arena(i.Plan.Workspace)
	if err != nil {
		return err
	}
	i.Batch, err = i.Decoder.NewBatch(workspace, i.Stream, i.Cache.Layer, i.Plan.Limits)
	return err
}

// arena makes an arena that Close closes.
func (i *Instance) arena(bytes int64) (kernels.Arena, error) {
	a, err := i.Device.NewArena(bytes)
	if err != nil {
		return nil, i.taken(bytes, err)
	}
	i.arenas, i.held = append(i.arenas, a), i.held+bytes
	return a, nil
}

// taken says what is missing if there is less memory for an arena of so many bytes than there was when the plan was made; else
// it returns err, why there is no arena.
func (i *Instance) taken(bytes int64, err error) error {
	free, _ := i.Device.Memory()
	if i.Plan.Free == 0 || free >= bytes || errors.Is(err, cuda.ErrLost) {
		return err
	}
	room := i.held + free // had this been known, the plan would have been made for it
	advice := "free memory"
	if budget := (room - margin(room)) >> 20; budget > 0 {
		advice += fmt.Sprintf(", or have --memory %dMiB compress the weights while they are loaded", budget)
	}
	return fmt.Errorf("fit model into memory: others have taken memory while it was loaded: %v are still wanted and %v are free, so %v are missing; %s: %w",
		Bytes(i.Plan.Need()-i.held), Bytes(free), Bytes(i.Plan.Need()-room), advice, err)
}

// Run runs the engine until ctx is done.
func (i *Instance) Run(ctx context.Context) error { return i.Engine.Run(ctx) }

// Close frees the device's memory and stops its threads. The engine must not be running.
func (i *Instance) Close() error {
	var errs []error
	if i.Batch != nil {
		errs = append(errs, i.Batch.Close())
	}
	for _, a := range i.arenas {
		errs = append(errs, a.Close())
	}
	if i.Device != nil {
		errs = append(errs, i.Device.Close())
	}
	return errors.Join(errs...)
}
