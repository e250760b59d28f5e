package abuse

import (
	"net/http"

	"github.com/meshproof/meshproof/internal/proxytest"
)

const (
	controllerIndex   = "internal/mesh/controller/index"
	controllerWatch   = "internal/mesh/controller/watch"
	controllerInbound = "internal/mesh/controller/inbound"
	controllerStatus  = "internal/mesh/controller/status"
	proxyPolicy       = "internal/mesh/proxy/policy"
	proxyInbound      = "internal/mesh/proxy/inbound"
)

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
			w.apply(proxytest.Server(detect(), proxytest.Identities("admins", adminID)))
			w.want(get("/public"), http.StatusForbidden)
			// The controller goes; the one that takes its place has not seen the
			// newest change yet, and serves what was there before it.
			w.plane.Replace(w.app.addr.Port(), proxytest.Server(detect(), proxytest.Anyone("everybody")))
			if err := w.plane.Watched(t.Context(), w.app.addr.Port()); err != nil {
				t.Fatalf("%v", err)
			}
			const asks = 20
			for range asks {
				if a := w.ask(get("/public")); a.status != http.StatusForbidden {
					t.Fatalf("the older policy of another controller came into force: status %d, want 403", a.status)
				}
			}
		}, Shown: map[string][]string{
			controllerWatch:   {"TestListsAskForThePresentState", "TestNothingIsCompleteBeforeEveryKindIs", "TestWhatChangedWhileTheWatchWasCutIsFoundByTheNextList"},
			controllerInbound: {"TestNobodyIsAnsweredBeforeTheIndexIsComplete", "TestAProxyThatComesBackFindsThePresentState"},
			controllerStatus:  {"TestAChangeOfAnOlderVersionIsNotWritten", "TestOneReplicaWritesAndTheNextTakesOver"},
		}},
	}
}
