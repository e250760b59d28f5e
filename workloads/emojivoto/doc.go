// Package emojivoto is the sample application that both source documents use:
// a poll in which every emoji is an rpc of its own.
//
// vote-bot asks web for the list and votes; web asks emoji and voting over
// gRPC; voting counts. Names, ports, labels, ServiceAccounts, environment and
// answers are those of rules E-01 to E-14, so that manifests and commands
// written for the published application work on this one. The API, package
// emojivoto.v1:
//
//	service EmojiService  { ListAll, FindByShortcode }
//	service VotingService { VotePoop … VoteFloppyDisk (one for each of All), Results }
//
// VoteDoughnut fails always, with status Unknown and message "ERROR". Votes are
// kept in memory and lost with the pod. There are no health endpoints and no
// probes: that is part of what the documents show (rule E-04). It does not
// check who is calling; that is the mesh's business.
package emojivoto
