//! Short lists of English words, written by hand: general ones, and no list of names that is meant to be complete.
//!
//! Kin words of other languages stand among them where they are common in the English of families who speak those.

/// Kin who are `she`: a word, or `word=head` for one that means the same as another.
pub(super) const SHE_KIN: &str = "\
    mother mum=mother mom=mother mama=mother mummy=mother mommy=mother mam=mother ma=mother grandmother \
    gran=grandmother granny=grandmother grandma=grandmother nana=grandmother nan=grandmother grandmama=grandmother \
    stepmother stepmom=stepmother stepmum=stepmother wife missus=wife ex-wife=ex girlfriend ex-girlfriend=ex \
    fiancée=fiancee fiancee bride=fiancee widow daughter stepdaughter sister sis=sister sissy=sister \
    half-sister=sister stepsister sister-in-law mother-in-law daughter-in-law aunt auntie=aunt aunty=aunt tia=aunt \
    tía=aunt masi=aunt khala=aunt bua=aunt abuela=grandmother oma=grandmother nonna=grandmother babcia=grandmother \
    dadi=grandmother nani=grandmother mami=mother mamá=mother ammi=mother amma=mother didi=sister niece granddaughter \
    godmother goddaughter bridesmaid";

/// Kin who are `he`.
pub(super) const HE_KIN: &str = "\
    father dad=father daddy=father papa=father pop=father pops=father da=father grandfather grandad=grandfather \
    granddad=grandfather grandpa=grandfather gramps=grandfather stepfather stepdad=stepfather husband hubby=husband \
    ex-husband=ex boyfriend ex-boyfriend=ex fiancé=fiance fiance groom=fiance widower son stepson brother bro=brother \
    half-brother stepbrother brother-in-law father-in-law son-in-law uncle tio=uncle tío=uncle chacha=uncle \
    mamu=uncle abuelo=grandfather opa=grandfather nonno=grandfather papi=father papá=father abbu=father appa=father \
    bhai=brother nephew grandson godfather godson";

/// Kin of either.
pub(super) const KIN: &str = "\
    ex spouse partner parent child kid=child toddler=baby baby newborn=baby infant=baby little-one=child grandchild \
    grandkid=grandchild youngest=child eldest=child oldest=child sibling twin cousin relative in-law in-laws=in-law \
    family godparent";

/// Trades and relations.
pub(super) const SHE_ROLE: &str = "\
    actress waitress hostess stewardess landlady headmistress schoolmistress midwife nun mistress barmaid housekeeper \
    nanny seamstress queen princess witch bitch";

/// Trades and relations.
pub(super) const HE_ROLE: &str = "\
    waiter steward landlord priest imam rabbi vicar deacon monk milkman postman mailman=postman lad=boy bloke=man \
    chap=man king prince bastard";

/// Trades and relations of either.
pub(super) const ROLE: &str = "\
    neighbour neighbor=neighbour boss manager supervisor foreman superior colleague coworker=colleague \
    co-worker=colleague workmate=colleague friend mate=friend buddy=friend pal=friend bestie=friend roommate=flatmate \
    flatmate housemate=flatmate lodger tenant classmate teammate teacher tutor professor lecturer principal \
    headteacher head-teacher dean student pupil coach trainer instructor mentor advisor adviser=advisor counselor \
    counsellor=counselor doctor doc=doctor gp=doctor physician surgeon consultant dentist nurse therapist \
    psychologist psychiatrist shrink=psychiatrist pharmacist chemist=pharmacist vet optician paramedic patient carer \
    caretaker=janitor caregiver=carer aide intern orientee trainee apprentice assistant secretary receptionist clerk \
    cashier lawyer attorney=lawyer solicitor=lawyer barrister judge magistrate mediator evaluator inspector officer \
    cop=officer policeman=officer policewoman=officer constable=officer deputy sheriff detective investigator guard \
    warden soldier sergeant captain chief colonel driver cabbie=driver courier rider pilot dispatcher mechanic \
    plumber electrician carpenter builder roofer painter gardener cleaner janitor porter concierge doorman bouncer \
    pastor preacher minister reverend bishop chaplain guru healer priestess elder councillor councilor=councillor \
    mayor politician senator chairman chairwoman=chairman chairperson=chairman president treasurer director owner \
    founder ceo employer employee worker staffer volunteer coordinator organiser=organizer organizer agent broker \
    realtor banker accountant bookkeeper adjuster analyst engineer developer programmer designer architect scientist \
    researcher author writer editor journalist reporter blogger streamer youtuber influencer moderator admin \
    mod=admin host presenter producer actor singer musician guitarist drummer pianist violinist conductor dancer \
    artist photographer barista bartender barman=bartender chef cook baker butcher farmer fisherman scorer umpire \
    referee=umpire ref=umpire keeper goalkeeper striker player batsman bowler opponent rival customer client buyer \
    seller vendor dealer supplier wholesaler sponsor donor guest visitor stranger witness victim suspect thief \
    burglar stalker bully creep liar snitch rat=snitch superintendent super=superintendent notary recruiter server \
    examiner trooper cadet grad=graduate graduate heir executor trustee curator archivist ranger lifeguard usher \
    verger sacristan organist choirmaster translator interpreter optometrist physio=physiotherapist physiotherapist \
    chiropractor radiologist anaesthetist orderly medic mason joiner welder glazier tailor cobbler jeweller jeweler \
    florist grocer barber hairdresser stylist beautician tattooist locksmith removalist trucker busker caller \
    scoutmaster groundskeeper caddie jockey groom stablehand skipper deckhand sailor fellow newcomer newbie \
    replacement successor predecessor locum temp interviewer candidate resident passenger member librarian astrologer \
    psychic hygienist technician tech=technician crew team committee couple gang";

/// A person and no more.
pub(super) const SHE_PLAIN: &str = "\
    woman lady girl gal=girl lass=girl chick=girl female=woman";

/// A person and no more.
pub(super) const HE_PLAIN: &str = "\
    man guy=man boy fella=man fellow=man dude=man gentleman=man male=man gent=man geezer=man";

/// A person and no more.
pub(super) const PLAIN: &str = "\
    person individual youngster teenager teen=teenager stranger youth";

/// Plurals that are not the word and an s.
pub(super) const PLURALS: &str = "\
    folks=person guys=man kids=child men=man women=woman children=child wives=wife ladies=lady people=people \
    families=family bosses=boss girls=girl boys=boy witches=witch bitches=bitch thieves=thief policemen=officer \
    gentlemen=man businessmen=businessman coaches=coach waitresses=waitress cronies=friend kiddies=child babies=baby \
    bullies=bully nannies=nanny buddies=buddy secretaries=secretary deputies=deputy";

/// Before a name, with the pronoun that goes with it.
pub(super) const TITLES: &str = "\
    mr=he mister=he sir=he mrs=she ms=she miss=she madam=she ma'am=she lady=she lord=he uncle=he aunt=she auntie=she \
    aunty=she tia=she tio=he tía=she tío=he sister=she brother=he father=he mother=she dr prof professor doctor nurse \
    pastor reverend rev deacon rabbi imam fr officer deputy constable sergeant sgt ssg captain capt lieutenant lt \
    major colonel judge justice coach principal chief mayor councillor inspector detective agent director chef big \
    little old";

/// Common given names that go with `she`.
pub(super) const SHE_NAMES: &str = "\
    abby adriana agnes aisha alexandra alice alicia alison allison amanda amara amber amelia amina amy ana anastasia \
    andrea angela angie anika anita ann anna anne annie anya april ashley astrid audrey barbara beatrice becca becky \
    bella beth bethany betty beverly bianca bridget brenda brittany camila carla carmen carol caroline carolyn carrie \
    catherine cathy celeste celia charlotte chelsea chloe christina christine cindy claire clara claudia colleen \
    courtney crystal cynthia daisy dana daniela danielle debbie deborah debra deepa denise diana diane donna dora \
    doris dorothy edith eileen elaine eleanor elena elizabeth ella ellen emily emma erica erin esther eva eve evelyn \
    fatima faye fiona florence frances gabriela gail gemma georgia geraldine gillian gina ginny gloria grace greta \
    gwen hanan hanna hannah harriet heather heidi helen helena holly ida imani ingrid irene iris jan isabel isabella \
    isla ivy jackie jacqueline jade jane janet janice jasmine jean jen jenna jennifer jenny jess jessica jill joan \
    joanna joanne jodie josephine joyce juanita judith judy julia juliana julie june karen karin kate katherine \
    kathleen kathy katie kavita kayla keisha kelly kendra kim kimberly kira kirsten krista kristen kristin krystal \
    laila lara latoya laura lauren leah leila lena leslie lily linda lindsay lisa liz lola lorna lorraine louise \
    lucia lucy luz lydia lynn maggie mandy marcia margaret maria marie marilyn marina marissa marjorie marlene marta \
    martha mary maya meera megan melanie melissa mercedes meredith mia michelle mira miranda miriam molly monica \
    nadia nancy naomi natalie natasha nell nia nicole nina nora olga olivia opal paige pam pamela patricia patty \
    paula pauline penny petra philippa phoebe phyllis polly priya rachel rebecca regina renee rhonda rita roberta \
    robin rosa rose rosemary ruby ruth sabrina sally samantha sandra sara sarah shannon sharon sheila shelly shirley \
    simone sofia sonia sophia sophie stacy stella stephanie sue susan suzanne svetlana sylvia tamara tammy tanya tara \
    teresa tessa thelma theresa tiffany tina toni tracy trisha ursula valerie vanessa vera veronica vicky victoria \
    violet virginia vivian wanda wendy whitney yasmin yolanda yvonne zoe";

/// Common given names that go with `he`.
pub(super) const HE_NAMES: &str = "\
    aaron abdul abel adam adrian ahmed alan albert alejandro alex alexander alfred ali allan allen alvin amir amit \
    andre andreas andrew andy angelo anthony antonio archie arjun arnold arthur austin barry ben benjamin bernard \
    bert bill billy bob bobby boris brad bradley brandon brendan brent brett brian bruce bruno bryan caleb calvin \
    cameron carl carlos cedric charles charlie chris christian christopher clarence claude clive clyde cody colin \
    connor corey craig curtis cyril dale damian dan daniel danny darrell darren dave david dean dennis derek desmond \
    devon dmitri dominic don donald doug douglas duane duncan dwayne dylan earl ed eddie edgar edward edwin eli elias \
    elliot eric ernest ethan eugene evan felix fernando francis frank franklin fred frederick gabriel gareth gary \
    gavin geoff george gerald gerard gilbert glen glenn gordon graham grant greg gregory gustavo guy hank harold \
    harry hassan hector henry herbert howard hugh hugo ian ibrahim igor isaac ivan jack jacob jake jamal james jamie \
    jared jason javier jay jeff jeffrey jeremy jerome jerry jesse jesus jim jimmy joe joel john johnny jon jonathan \
    jordan jorge jose joseph josh joshua juan julian justin karl karim keith ken kenneth kevin kev khalid kurt kyle \
    lance larry lars laurence lawrence lee leo leon leonard leroy lewis liam lloyd logan louis lucas luis luke \
    malcolm manuel marco marcus mario mark martin marvin mason matt matthew maurice max melvin michael miguel mike \
    mitchell mohamed mohammed morris nate nathan nathaniel neil nelson nicholas nick nigel noah noel norman oliver \
    omar oscar otto owen pablo patrick paul pedro percy perry pete peter phil philip phillip preston rafael raj \
    rajesh ralph ramon randall randy raul ray raymond reggie rex ricardo richard rick ricky rob robert roberto rodney \
    roger roland ron ronald rory ross roy rupert russell ryan sam samir samuel sanjay scott sean sebastian sergei \
    seth shane shaun sid simon spencer stan stanley stefan stephen steve steven stewart stuart terrence terry theo \
    theodore thomas tim timothy toby todd tom tommy tony travis trevor troy tyler tyrone vernon victor vikram vincent \
    vladimir wade wallace walter warren wayne wendell wesley wilbur will william winston xavier yusuf zachary";

/// End the look back from a noun to its determiner.
pub(super) const FUNCTION: &str = "\
    i you he she it we they me him us them who whom which what that's if and or but nor so because as at by for from \
    in into of off on onto out over to under up with without about after before between through during against near \
    toward towards than then when while where why how not no is are was were be been being am has have had do does \
    did don't doesn't didn't can could will would shall should may might must ain't isn't wasn't says said like there \
    here just only also too very yes ok okay please thanks thank make makes made let lets got get gets give gave tell \
    told ask asked call called calls want wants it's i'm i've i'd he's she's they're ever never always again still \
    even";

/// Capitalised, and no person.
pub(super) const NO_NAMES: &str = "\
    i monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays \
    saturdays sundays january february march april may june july august september october november december feb mar \
    apr jun jul aug sept sep oct nov dec english french german spanish italian irish scottish welsh british american \
    canadian australian indian chinese japanese russian polish dutch danish swedish norwegian turkish greek arabic \
    hindi urdu latin hungarian czech slovak romanian ukrainian african asian european christmas easter thanksgiving \
    halloween ramadan eid diwali hanukkah passover lent god lord jesus christ allah bible scripture quran internet \
    google facebook instagram twitter whatsapp youtube reddit tiktok linkedin amazon netflix microsoft windows excel \
    word apple android zoom uber tesla ford toyota honda subaru bmw volvo corolla silverado europe america england \
    ireland scotland wales britain london paris france germany spain italy india china japan canada australia africa \
    mexico texas california florida york ok okay tv pc uk us usa eu mr mrs ms dr street road avenue lane court north \
    south east west university college school hospital church park county city state bank station airport hotel inn \
    pub club cafe office department company";

/// After these a capitalised word is a place.
pub(super) const PLACES_AFTER: &str = "\
    in at near outside inside around across through past toward towards into onto via on along beside behind above \
    below";

/// Before these a capitalised word is a place or an institution.
pub(super) const PLACES_BEFORE: &str = "\
    street st road rd avenue ave lane drive court square park beach bridge hill hall house hotel inn pub bar cafe \
    club church chapel college school university hospital clinic station airport county city bay lake river branch \
    line library market office building centre center championship cup league award act association ltd inc";

/// What people do: before these a capitalised word is a person.
pub(super) const DEEDS: &str = "\
    said says told tells asked asks wants wanted thinks thought knows knew called calls texted texts cried cries \
    laughed laughs smiled smiles came comes went goes got gets gave gives took takes has had is was will won't would \
    does did doesn't didn't hasn't isn't wasn't never always just still left leaves lives lived works worked drives \
    drove looked looks sent sends wrote writes made makes put puts saw sees found finds keeps kept showed shows stood \
    stands sat sits ate eats loves loved hates hated likes liked picked walks walked moved moves died stopped stops \
    started brought brings paid pays swears swore smokes snores can can't could couldn't ought must might should who \
    used needs needed believes heard hears read reads rang rings posted posts replied answered answers blocked blocks \
    married won lost reckons promised signed gone fell falls";

/// What only people do.
pub(super) const SAYINGS: &str = "\
    said says told tells asked asks texted texts wants wanted thinks knows called laughed cried swore married \
    promised reckons blocked filmed posted apologised apologized drove wrote writes emailed messaged phoned rang \
    smiled shouted yelled whispered lied lives";

/// Numbers.
pub(super) const COUNTS: &str = "\
    two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen \
    nineteen twenty thirty forty fifty hundred both";

/// As likely another word as one for a person, where no determiner stands before it.
pub(super) const DOUBTFUL: &str = "\
    patient guard guest host team crew keeper cook technician referee moderator agent soldier minister author lodger \
    stranger thief baby child friend partner twin relative person man fellow minor member witness victim couple gang \
    deacon major worker resident ex king queen prince princess";

/// Given names that are other words as well, in a text without capitals.
pub(super) const DOUBTFUL_NAMES: &str = "\
    will mark bill rose grace hope may june grant iris sue rob frank dean pat ray jack guy rich earl dale glen \
    heather ivy joy daisy ruby amber violet virginia april jean rex drew lance miles bob nick don ed max lee art jay \
    ross dominic curtis sage noah ali gay ida eve penny carol holly miss sid liz sam star victor reggie gene lena \
    mercedes dora liam";

/// Capitalised at the head of a sentence, and no names.
pub(super) const STARTERS: &str = "\
    mine yours ours theirs hers now see look explain add fix check find show start stop today tomorrow yesterday \
    tonight work school home dinner lunch breakfast life money time things everything nothing nobody everybody \
    everyone someone anyone something anything one two three four five six most some all both each many much more \
    another other same good great fine sure right well maybe perhaps funny sorry question answer day night morning \
    evening week weekend month year last next first second third new old these those his her their our your my its \
    half part whole nine ten once since until though although unless whether either neither such none few every any \
    long little big bad best better real really actually anyway anyhow meanwhile honestly apparently probably okay \
    yeah yep nope nah hey hi hello oh ah ha haha lol wow god damn hell shit fuck love hope hate help need draft write \
    read use try keep turn put take say ask tell done gone got had did does was were been being am are is";

/// Adjectives that tell nobody from others: "the poor man" may be "the old man".
pub(super) const COMMON: &str = "\
    same poor old young little big nice good dear dead late own very stupid damn bloody sweet whole";

/// Begin what tells one person from others.
pub(super) const TELLING: &str = "\
    in at from with of on behind across after downstairs upstairs next-door who next";

/// Adjectives that belong to a noun without a determiner.
pub(super) const QUALIFIERS: &str = "\
    new old ex poor dear big little young former head";

/// Before a name also without a capital.
pub(super) const ADDRESS: &str = "\
    mr mrs ms miss dr mister uncle aunt auntie prof";

/// Before a new subject.
pub(super) const CLAUSES: &str = "\
    and but so then that if when because anyway said says like";

/// Determiners of nobody in particular.
pub(super) const NOBODY: &str = "\
    any every no each most many few several which what whatever whose";

/// Give a name.
pub(super) const CALLS: &str = "\
    call calls called calling nicknamed dubbed named";

/// Speak of one who was not spoken of.
pub(super) const OTHERS: &str = "\
    other another new second next";
