package emojivoto

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshproof/meshproof/workloads/rpc"
)

// RegisterEmoji serves EmojiService on server. An unknown shortcode is answered
// with a response that holds no emoji, not with an error.
func RegisterEmoji(server *grpc.Server) {
	rpc.Register(server, EmojiFile, rpc.Handlers{Unary: func(_ context.Context, method string, in, out *dynamicpb.Message) error {
		if method == "ListAll" {
			list := out.Mutable(out.Descriptor().Fields().ByName(fieldList)).List()
			for _, emoji := range emojis {
				setEmoji(list.AppendMutable().Message(), emoji)
			}
			return nil
		}
		if emoji, ok := Find(rpc.GetString(in, fieldShortcode)); ok {
			setEmoji(out.Mutable(out.Descriptor().Fields().ByName(fieldEmoji)).Message(), emoji)
		}
		return nil
	}})
	rpc.Reflect(server, EmojiFile)
}

func setEmoji(m protoreflect.Message, emoji Emoji) {
	rpc.SetString(m, fieldUnicode, emoji.Unicode)
	rpc.SetString(m, fieldCode, emoji.Shortcode())
}

// Poll counts votes. The zero value is an empty poll, safe for concurrent use.
type Poll struct {
	mu    sync.Mutex
	votes map[string]int32
}

// Vote adds a vote for a shortcode.
func (p *Poll) Vote(shortcode string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.votes == nil {
		p.votes = map[string]int32{}
	}
	p.votes[shortcode]++
}

// Result is one line of the leaderboard.
type Result struct {
	Shortcode string
	Votes     int32
}

// Results lists what has been voted for, most votes first, then by name.
func (p *Poll) Results() []Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	results := make([]Result, 0, len(p.votes))
	for shortcode, votes := range p.votes {
		results = append(results, Result{shortcode, votes})
	}
	slices.SortFunc(results, func(a, b Result) int {
		return cmp.Or(cmp.Compare(b.Votes, a.Votes), cmp.Compare(a.Shortcode, b.Shortcode))
	})
	return results
}

// RegisterVoting serves VotingService on server, counting in poll.
func RegisterVoting(server *grpc.Server, poll *Poll) {
	shortcodes := map[string]string{}
	for _, emoji := range emojis {
		shortcodes[emoji.Method()] = emoji.Shortcode()
	}
	rpc.Register(server, VotingFile, rpc.Handlers{Unary: func(_ context.Context, method string, _, out *dynamicpb.Message) error {
		switch shortcode := shortcodes[method]; shortcode {
		case Doughnut:
			// The published application fails here in every release that its
			// manifests name; the walk-through's success rate depends on it.
			return status.Error(codes.Unknown, "ERROR")
		case "":
			list := out.Mutable(out.Descriptor().Fields().ByName(fieldResults)).List()
			for _, result := range poll.Results() {
				m := list.AppendMutable().Message()
				rpc.SetString(m, fieldShortcode, result.Shortcode)
				m.Set(m.Descriptor().Fields().ByName(fieldVotes), protoreflect.ValueOfInt32(result.Votes))
			}
		default:
			poll.Vote(shortcode)
		}
		return nil
	}})
	rpc.Reflect(server, VotingFile)
}
