package emojivoto

import "strings"

// Emoji is one choice of the poll.
type Emoji struct {
	// Name is the shortcode without its colons: "point_up_2".
	Name string
	// Unicode is the character, or the sequence of them, that a person sees.
	Unicode string
}

// Doughnut is the choice whose vote always fails (rule E-09).
const Doughnut = ":doughnut:"

// emojis is the poll, in the order in which the rpcs of VotingService stand.
var emojis = [...]Emoji{
	{"poop", "💩"}, {"joy", "😂"}, {"sunglasses", "😎"}, {"relaxed", "☺️"},
	{"stuck_out_tongue_winking_eye", "😜"}, {"money_mouth_face", "🤑"}, {"flushed", "😳"}, {"mask", "😷"},
	{"nerd_face", "🤓"}, {"ghost", "👻"}, {"skull_and_crossbones", "☠️"}, {"heart_eyes_cat", "😻"},
	{"hear_no_evil", "🙉"}, {"see_no_evil", "🙈"}, {"speak_no_evil", "🙊"}, {"boy", "👦"},
	{"girl", "👧"}, {"man", "👨"}, {"woman", "👩"}, {"older_man", "👴"},
	{"policeman", "👮"}, {"guardsman", "💂"}, {"construction_worker_man", "👷"}, {"prince", "🤴"},
	{"princess", "👸"}, {"man_in_tuxedo", "🤵"}, {"bride_with_veil", "👰"}, {"mrs_claus", "🤶"},
	{"santa", "🎅"}, {"turkey", "🦃"}, {"rabbit", "🐰"}, {"no_good_woman", "🙅"},
	{"ok_woman", "🙆"}, {"raising_hand_woman", "🙋"}, {"bowing_man", "🙇"}, {"man_facepalming", "🤦‍♂️"},
	{"woman_shrugging", "🤷‍♀️"}, {"massage_woman", "💆"}, {"walking_man", "🚶"}, {"running_man", "🏃"},
	{"dancer", "💃"}, {"man_dancing", "🕺"}, {"dancing_women", "👯"}, {"rainbow", "🌈"},
	{"skier", "⛷️"}, {"golfing_man", "🏌️"}, {"surfing_man", "🏄"}, {"basketball_man", "⛹️"},
	{"biking_man", "🚴"}, {"point_up_2", "👆"}, {"vulcan_salute", "🖖"}, {"metal", "🤘"},
	{"call_me_hand", "🤙"}, {"thumbsup", "👍"}, {"wave", "👋"}, {"clap", "👏"},
	{"raised_hands", "🙌"}, {"pray", "🙏"}, {"dog", "🐶"}, {"cat2", "🐈"},
	{"pig", "🐷"}, {"hatching_chick", "🐣"}, {"snail", "🐌"}, {"bacon", "🥓"},
	{"pizza", "🍕"}, {"taco", "🌮"}, {"burrito", "🌯"}, {"ramen", "🍜"},
	{"doughnut", "🍩"}, {"champagne", "🍾"}, {"tropical_drink", "🍹"}, {"beer", "🍺"},
	{"tumbler_glass", "🥃"}, {"world_map", "🗺️"}, {"beach_umbrella", "🏖️"}, {"mountain_snow", "🏔️"},
	{"camping", "🏕️"}, {"steam_locomotive", "🚂"}, {"flight_departure", "🛫"}, {"rocket", "🚀"},
	{"star2", "🌟"}, {"sun_behind_small_cloud", "🌤️"}, {"cloud_with_rain", "🌧️"}, {"fire", "🔥"},
	{"jack_o_lantern", "🎃"}, {"balloon", "🎈"}, {"tada", "🎉"}, {"trophy", "🏆"},
	{"iphone", "📱"}, {"pager", "📟"}, {"fax", "📠"}, {"bulb", "💡"},
	{"money_with_wings", "💸"}, {"crystal_ball", "🔮"}, {"underage", "🔞"}, {"interrobang", "⁉️"},
	{"100", "💯"}, {"checkered_flag", "🏁"}, {"crossed_swords", "⚔️"}, {"floppy_disk", "💾"},
}

// All returns the hundred choices in the order of the service's rpcs.
func All() []Emoji {
	all := emojis
	return all[:]
}

// Find returns the emoji with that shortcode, colons included.
func Find(shortcode string) (Emoji, bool) {
	for _, emoji := range emojis {
		if emoji.Shortcode() == shortcode {
			return emoji, true
		}
	}
	return Emoji{}, false
}

// Shortcode is the name as the API writes it: ":point_up_2:".
func (e Emoji) Shortcode() string { return ":" + e.Name + ":" }

// Method is the name of the emoji's rpc: "VotePointUp2".
func (e Emoji) Method() string {
	var method strings.Builder
	method.WriteString("Vote")
	for word := range strings.SplitSeq(e.Name, "_") {
		method.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return method.String()
}
