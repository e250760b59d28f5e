package emojivoto

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/meshproof/meshproof/workloads/rpc"
)

// Package is the protobuf package of both services (rule E-05).
const Package = "emojivoto.v1"

// Field names of the messages. Their spelling, upper case included, is that of
// emojivoto's published API, since JSON clients such as grpcurl see it.
const (
	fieldList      protoreflect.Name = "list"
	fieldUnicode   protoreflect.Name = "unicode"
	fieldCode      protoreflect.Name = "shortcode"
	fieldShortcode protoreflect.Name = "Shortcode"
	fieldEmoji     protoreflect.Name = "Emoji"
	fieldResults   protoreflect.Name = "results"
	fieldVotes     protoreflect.Name = "Votes"
)

// EmojiFile describes EmojiService: ListAll and FindByShortcode.
var EmojiFile = rpc.MustFile("Emoji.proto", Package, []*descriptorpb.DescriptorProto{
	rpc.Message("Emoji", rpc.String("unicode"), rpc.String("shortcode")),
	rpc.Message("ListAllEmojiRequest"),
	rpc.Message("ListAllEmojiResponse", rpc.Repeated(rpc.Nested("list", "Emoji"))),
	rpc.Message("FindByShortcodeRequest", rpc.String("Shortcode")),
	rpc.Message("FindByShortcodeResponse", rpc.Nested("Emoji", "Emoji")),
}, rpc.Service("EmojiService",
	rpc.Unary("ListAll", "ListAllEmojiRequest", "ListAllEmojiResponse"),
	rpc.Unary("FindByShortcode", "FindByShortcodeRequest", "FindByShortcodeResponse")))

// VotingFile describes VotingService: one rpc for each emoji, and Results.
var VotingFile = rpc.MustFile("Voting.proto", Package, []*descriptorpb.DescriptorProto{
	rpc.Message("VotingResult", rpc.String("Shortcode"), rpc.Int32("Votes")),
	rpc.Message("VoteRequest"),
	rpc.Message("VoteResponse"),
	rpc.Message("ResultsRequest"),
	rpc.Message("ResultsResponse", rpc.Repeated(rpc.Nested("results", "VotingResult"))),
}, rpc.Service("VotingService", votingMethods()...))

func votingMethods() []*descriptorpb.MethodDescriptorProto {
	var methods []*descriptorpb.MethodDescriptorProto
	for _, emoji := range emojis {
		methods = append(methods, rpc.Unary(emoji.Method(), "VoteRequest", "VoteResponse"))
	}
	return append(methods, rpc.Unary("Results", "ResultsRequest", "ResultsResponse"))
}

func emojiMethod(name string) protoreflect.MethodDescriptor {
	return EmojiFile.Services().ByName("EmojiService").Methods().ByName(protoreflect.Name(name))
}

func votingMethod(name string) protoreflect.MethodDescriptor {
	return VotingFile.Services().ByName("VotingService").Methods().ByName(protoreflect.Name(name))
}
