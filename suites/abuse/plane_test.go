package abuse

import (
	"net/http"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"

	"github.com/meshproof/meshproof/internal/mesh/revision"
	"github.com/meshproof/meshproof/internal/proxytest"
)

const (
	controllerIndex   = "internal/mesh/controller/index"
	controllerWatch   = "internal/mesh/controller/watch"
	controllerInbound = "internal/mesh/controller/inbound"
	controllerStatus  = "internal/mesh/controller/status"
	proxyPolicy       = "internal/mesh/proxy/policy"
	proxyInbound      = "internal/mesh/proxy/inbound"
	policyRevision    = "internal/mesh/revision"
)

// olderTotal counts messages that were turned down.
const olderTotal = "inbound_policy_older_total"

func planeCases() []Case {
	return []Case{
		{Number: 69, Title: "of two Servers on a port the oldest decides; its deletion moves the port over in one step", Shown: map[string][]string{
			controllerIndex: {"TestOfOverlappingServersTheOldestAndThenTheFirstByNameDecides", "TestAPortMovesFromOneServerToTheNextInOneStep", "TestObjectsThatDoNotDoWhatTheySeemToAreFound"},
		}},
		{Number: 70, Title: "a deleted Server leaves the default, and neither order of Server and authorization opens in between", Shown: map[string][]string{
			controllerIndex: {"TestNeitherOrderOfServerAndAuthorizationOpensInBetween", "TestAPortWithoutServerHasThePodsDefaultPolicy", "TestAServerDeniesEverybodyUntilAuthorized", "TestATransactionIsSeenAsOneStep"},
		}},
		{Number: 71, Title: "invalid objects never widen; an authorization without its authentication grants nothing", Shown: map[string][]string{
			controllerIndex: {"TestPoliciesThatCannotBeCheckedWidenNothing", "TestAMissingAuthenticationVoidsThePolicyUntilItExists", "TestNetworksThatCannotBeReadAdmitNobody",
				"TestAnUnusableServerKeepsItsPortAndDeniesEverybody", "TestAnUnusableAuthorizationGrantsNothingUntilItIsValidAgain", "TestARouteThatCannotBeUnderstoodOpensNothing", "TestObjectsThatDoNotDoWhatTheySeemToAreFound"},
		}},
		{Number: 72, Title: "empty and absent are told apart: selectors, clients, lists", Shown: map[string][]string{
			controllerIndex: {"TestSelectorsMatchAsKubernetesSaysAndNothingWhereMalformed", "TestAClientIsReadAsItsFieldsSay"},
			controllerWatch: {"TestMissingAndEmptyValuesStayDifferentOnTheWayIn"},
		}},
		{Number: 73, Title: "several required authentications are all required", Shown: map[string][]string{controllerIndex: {"TestAPolicyAsksForAllItsAuthentications"}}},
		{Number: 74, Title: "references to targets in other namespaces are refused", Shown: map[string][]string{
			controllerIndex:                      {"TestServersAndAuthorizationsStayInTheirNamespace", "TestAPolicyGrantsAccessToItsTargetOnly"},
			"internal/mesh/controller/admission": {"TestEveryRuleOfSectionTwoIsKept"},
		}},
		{Number: 75, Title: "probes are granted for GET, their exact path, port and networks, and nothing wider", Shown: map[string][]string{
			controllerIndex: {"TestProbesAreGrantedOnTheirPortAndExactPathsOnly", "TestWithoutProbeNetworksThereIsNoProbeRoute", "TestAcceptedRoutesTakeThePlaceOfTheBuiltInOnes"},
			proxyPolicy:     {"TestProbeRouteIsExactAndGetOnly"},
		}},
		{Number: 76, Title: "a misspelt default is told and does not open more than the cluster's", Shown: map[string][]string{
			"internal/mesh/injector": {"TestAnInvalidDefaultPolicyFallsBackToTheClustersAndIsTold", "TestTheMostSpecificDefaultPolicyWins"},
			controllerIndex:          {"TestADefaultPolicyIsReadWhereTheDialectKeepsIt"},
		}},
		{Number: 77, Title: "no verdict of an old policy outlives the word that the new one is in force", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			w.keeps = func(string) bool { return false }
			open, closed := proxytest.Server(detect(), proxytest.Anyone("everybody")), proxytest.Server(detect(), proxytest.Identities("admins", adminID))
			c, h := w.dial(), w.h2()
			const changes = 60
			for i := range changes {
				policy, status := open, http.StatusOK
				if i%2 == 1 {
					policy, status = closed, http.StatusForbidden
				}
				w.apply(policy)
				c.patient(patience)
				h.patient(patience)
				c.send(get("/public"))
				w.is("an open connection", c.read("GET"), status)
				if s := h.get("/public"); s.status() != status {
					t.Errorf("a new stream: status %d, want %d", s.status(), status)
				}
				w.want(get("/public"), status)
			}
		}, Shown: map[string][]string{
			controllerIndex: {"TestSelectionFollowsLabelsOfPodsAndServers", "TestAWatcherIsToldOnlyWhatReallyChanges"},
			proxyInbound:    {"TestRevocationCutsExactlyWhatNothingCovers"},
		}},
		{Number: 78, Title: "ports named twice, missing, zero and highest select the right numbers", Shown: map[string][]string{
			controllerIndex:           {"TestAServersPortSelectsTheseNumbers"},
			controllerInbound:         {"TestWorkloadsAreReadInEveryForm"},
			"internal/mesh/intercept": {"TestPortListsAreReadStrictly"},
		}},
		{Number: 79, Title: "messages that are older, cut or of a newer controller never open", Shown: map[string][]string{
			proxyPolicy:  {"TestMessagesThatAreNotUnderstoodInFullAreRefused", "TestWhatIsUnknownInAMessageIsNeverPassedOver", "TestAnAuthenticationOfUnknownKindGrantsNothingAndSpoilsNothing", "TestEveryShapeOfAMessageIsUnderstoodOrRefused"},
			proxyInbound: {"TestAnInvalidMessageLeavesTheLastGoodPolicyInForce", "TestAStreamThatIsSilentOrOldIsGivenUpForAnother"},
		}},
		{Number: 80, Title: "a controller whose cache is behind does not take back what was in force", Run: func(t *T) {
			w := newWorld(t, proxytest.Server(detect(), proxytest.Anyone("everybody")))
			port := w.app.addr.Port()
			of := func(text string, authz *pb.Authz) *pb.Server {
				server := proxytest.Server(detect(), authz)
				server.Labels[revision.Label] = text
				return server
			}
			everybody, admins := proxytest.Anyone("everybody"), proxytest.Identities("admins", adminID)
			// stays: the controller goes, and what the one in its place tells does not
			// come into force.
			turnedDown := 0.0
			stays := func(text string, authz *pb.Authz, status int) {
				w.plane.Replace(port, of(text, authz))
				if err := w.plane.Watched(t.Context(), port); err != nil {
					t.Fatalf("%v", err)
				}
				w.eventually("the older policy is counted", func() bool { return w.metrics(olderTotal)[olderTotal] > turnedDown })
				turnedDown = w.metrics(olderTotal)[olderTotal]
				const asks = 20
				for range asks {
					if a := w.ask(get("/public")); a.status != status {
						t.Fatalf("the older policy of another controller (%s) came into force: status %d, want %d", text, a.status, status)
					}
				}
			}
			w.apply(of("serverauthorizations=90,servers=50-100", admins))
			w.want(get("/public"), http.StatusForbidden)
			stays("serverauthorizations=89,servers=50-100", everybody, http.StatusForbidden)
			stays("serverauthorizations=50,servers=110", everybody, http.StatusForbidden)
			stays("servers=110", everybody, http.StatusForbidden)
			if asked := w.plane.Asked(port); asked != "serverauthorizations=90,servers=50" {
				t.Errorf("the proxy asks for a policy as new as %q", asked)
			}
			// It catches up: the same policy, now of a revision that is no older.
			w.apply(of("serverauthorizations=70-95,servers=50-60", everybody))
			w.want(get("/public"), http.StatusOK)
			// A controller that says no revision is believed, and what was known before
			// it still counts.
			w.apply(proxytest.Server(detect(), admins))
			w.want(get("/public"), http.StatusForbidden)
			stays("serverauthorizations=89,servers=49", everybody, http.StatusForbidden)
		}, Shown: map[string][]string{
			proxyInbound:   {"TestNoReplicaTakesBackWhatWasInForce", "TestAReplicaIsToldWhatItMustBeAsNewAs", "TestAPortThatComesBackIsNoOlderThanItWas", "TestWhoIsTurnedDownIsAskedAgain"},
			policyRevision: {"TestAPolicyIsOlderWhenItLacksAChangeOfAnyKind", "TestNothingThatIsLetThroughIsOlder"},
			controllerWatch: {"TestReachWaitsUntilTheIndexIsAsNew", "TestVersionsBeyondTheClustersPresentAreVoid", "TestWhoCannotAskTheAPIServerProvesNothing",
				"TestARevisionIsFromTheNewestChangeToWhereTheKindIsComplete", "TestAChangeIsToldWithItsRevision", "TestAChangeAndItsReversalInOneStepAreToldForTheirRevision",
				"TestListsAskForThePresentState", "TestNothingIsCompleteBeforeEveryKindIs", "TestWhatChangedWhileTheWatchWasCutIsFoundByTheNextList"},
			controllerInbound: {"TestAReplicaThatIsBehindSaysNothingUntilItIsNot", "TestVoidKindsAreToldBeforeTheFirstMessage", "TestARevisionIsOneLabelMoreAndNotPartOfThePolicy",
				"TestNobodyIsAnsweredBeforeTheIndexIsComplete", "TestAProxyThatComesBackFindsThePresentState"},
			controllerStatus: {"TestAChangeOfAnOlderVersionIsNotWritten", "TestOneReplicaWritesAndTheNextTakesOver"},
		}},
	}
}
