"""Everyday English: words that mean nearly the same, as anybody who reads knows them.

Written down by hand, for no task in particular; the words of a line share a meaning.
A line that begins with a blank goes on with the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

_LINES = """
praise thanks thank grateful gratitude good great excellent love loved lovely perfect perfectly wonderful
 brilliant superb fantastic amazing awesome happy pleased delighted glad fab fabulous best nice beautiful
 gorgeous impressed impressive compliment recommend content contentment satisfied satisfaction enjoy
 enjoyed joy pleasure favourite super marvellous splendid spotless bravo kudos hero lifesaver smile delight
 admiration approval excitement excited proud optimism hope
complaint complain complained bad badly terrible awful horrible poor poorly useless disappointed
 disappointing disappointment displeased angry anger furious annoyed annoying annoyance upset unhappy
 rubbish worse worst disgrace disgusting disgust unacceptable ridiculous frustrated frustrating nuisance
 joke shame pathetic appalling shocking hate hated dreadful miserable insult rude broke broken wrong never
 nobody nothing missing late refused ruined wasted waste waited stuck failed fails fault faulty problem
 trouble sorry disapproval unfair charged twice ignored lost
sad sadness sorrow cry crying tears grief miserable depressed lonely remorse regret sorry
fear afraid scared scary frightened terrified worried worry nervous nervousness anxious anxiety
surprise surprised astonished amazed unexpected shocked wow suddenly realize
funny amusement laugh laughed laughing hilarious lol haha amused joke
curious curiosity wonder wondering question ask asks wish
confused confusion confusing unclear puzzled misunderstand understand
refund reimburse reimbursement repay refunded repaid money
return send sending sent back returned
money cash pay paid payment price cost pound euro dollar bill charge fee
invoice receipt bill statement
expensive dear overpriced costly pricey steep dearer
cheap inexpensive bargain affordable value worth cheaper
discount code voucher coupon offer promotion promo sale reduced
points rewards loyalty
broken broke damaged damage smashed cracked shattered snapped defective faulty defect chipped dented split
 torn ripped crushed
fail failed fails stopped working died dead crash crashed crashes freeze freezes hang hangs stuck error
late delayed delay overdue behind later waiting waited wait
early earlier beforehand soon
slow slowly sluggish ages forever hours loading
fast quick quickly rapid speedy prompt promptly speed instantly hour
deliver delivery delivered courier driver parcel package shipment shipping dispatched arrive arrived came
 door van
neighbour neighbor stranger doorstep
lost missing gone absent disappeared vanished lacking nowhere without
wrong incorrect mistaken mistake instead different
rude impolite unfriendly aggressive shouted swore dismissive insulting arrogant lazy slammed
kind kindly friendly polite helpful patient
reply answer answered respond response unanswered silence ignored
phone call called calls telephone rang ring line hold queue
agent staff colleague employee representative assistant advisor human
bot chatbot robot machine automated
size sizes fit fits medium sizing
small tight short narrow tiny smaller
large big huge loose long wide baggy bigger
clothes shirt dress trousers jeans coat jacket shoes boots sweater jumper skirt sock sandals
scratch scratches itch itchy rub rubs blister pinch press uncomfortable
smell smells stink stinks reek odour scent chemical
taste tastes tasted flavour bland delicious tasty bitter
food groceries grocery milk bread eggs fruit vegetables meat cheese fish salad tomatoes apples bananas
 strawberries yogurt butter chicken
mould mouldy rot rotten mold moldy spoiled
expired expiry date past
warm thawed defrosted melted chilled frozen
box carton package packaging packing cardboard wrapping wrapped bag
plastic waste bubble recycle recycling environment
instructions manual guide steps diagram
assemble assembly assembled build put screws holes bolts
part parts piece screw lid cable component
easy easily simple effortless
hard difficult difficulty complicated tricky impossible
repair repaired fix fixed mend mended technician engineer
guarantee warranty covered
account profile login signin password log sign
password reset forgot forgotten
blocked locked suspended banned frozen
refused rejected declined denied
delete deleted remove removed erase close closing
privacy data stored personal gdpr share shared
newsletter spam newsletters marketing unsubscribe advertising
hacked hacker fraud stolen scam
website site page web browser online
app application android iphone tablet update
search find filter filters results
basket cart checkout
stock available availability sold restock
subscription subscribe membership plan monthly
cancel cancelled cancellation end stop quit terminate
renew renewed renewal automatically
pause skip paused skipped holiday
swap exchange replace replacement substitute substituted substitution
hurt injured injury ill hospital burn burned burnt bleeding accident choke
danger dangerous unsafe safety hazard fire smoke shock recall
allergy allergic nuts gluten vegan halal vegetarian dairy lactose kosher
fake counterfeit imitation copy
quality flimsy thin cheaply material
picture photo pictured description described advertised image
colour color blue red green black white pink yellow
twice double duplicate two
rain wet soaked damp water
thrown threw dropped kicked tossed
leak leaked leaking spilt spilled
travel trip journey flight fly plane airport
hotel room stay guest reception booking book reserve reservation
bed mattress pillow sleep slept
noise noisy loud
wifi internet network wlan connection router
breakfast dinner lunch meal restaurant cook eat ate
clean dirty filthy dust stain stained
parking park car garage vehicle
weather rain sunny snow forecast temperature
music song play playlist
timer alarm remind reminder wake
translate translation language spanish french german italian
bank account balance transfer savings
card credit debit
tyre tire oil gas petrol fuel
traffic route directions map distance far
insurance policy claim
vacation holiday leave pto
salary wage income paycheck
doctor health medicine vaccine
yes affirm right agree sure yeah
no deny not nope disagree
hello greeting hi hey
bye goodbye farewell
"""


@cache
def meanings() -> Mapping[str, tuple[int, ...]]:
    """The numbers of the meanings that each word has."""
    found: dict[str, tuple[int, ...]] = {}
    for number, line in enumerate(_LINES.strip().replace("\n ", " ").splitlines()):
        for word in dict.fromkeys(line.split()):
            found[word] = (*found.get(word, ()), number)
    return found
