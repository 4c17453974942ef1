"""Courtesies: phrases around a caption with which a model speaks to its user, and those of a model that thinks aloud.

Each expression has bounded repetitions only, so that it takes time in proportion to the text.
"""

import re

_GAP = r"[\s*_#>]{0,8}"
_YES = (
    r"sure(?: thing)?|certainly|of course|absolutely|okay|ok|alright|great|got it|no problem|understood|definitely"
    r"|gladly"
    r"|конечно|разумеется|хорошо|с удовольствием|понял[аи]?|да,? конечно|звичайно|звісно|гаразд"
    r"|好的|当然(?:可以)?|可以|没问题|當然|没有问题|明白了|はい|もちろん(?:です)?|承知しました|네|물론(?:입니다"
    r"|이죠)?|알겠습니다"
    r"|¡?claro(?: que sí)?|¡?por supuesto|desde luego|con gusto|entendido|de acuerdo"
    r"|natürlich|gerne?|selbstverständlich|klar|sicher|in ordnung|alles klar|verstanden"
    r"|bien sûr|certainement|avec plaisir|d'accord|très bien|entendu|volontiers"
    r"|certo|certamente|volentieri|claro que sim|com certeza|claro|oczywiście|pewnie|natuurlijk|elbette|tabii(?: ki)?"
)
# "Here is a detailed description of the video:", without a full stop in it.
_WORD = (
    r"(?:description|caption|summary|overview|breakdown|account|analysis|transcript|answer|response|описани[ея]"
    r"|подпись|опис"
    r"|описание|резюме|描述|说明|說明|概述|字幕|説明|キャプション|설명|descripción|resumen|leyenda|beschreibung"
    r"|zusammenfassung"
    r"|bildbeschreibung|description|légende|résumé|descrizione|descrição|legenda|opis|beschrijving|açıklama)"
)
_HERE = (
    r"(?:(?:here(?:'s| is| are)|below is|the following is|following is|this is|i have (?:written|prepared)"
    r"|i've (?:written|prepared)"
    r"|вот|ниже (?:приведен[оаы]?|приведён|представлен[оаы]?|следует)|это|ось|нижче"
    r"|aquí (?:tienes?|está|te|le|hay)|a continuación|esta es|hier ist|hier kommt|nachfolgend|im folgenden|es folgt"
    r"|das ist"
    r"|voici|ci-dessous|voilà|ecco|di seguito|aqui está|segue|oto|poniżej|hier is|işte|aşağıda)\b"
    r"|以下是|以下为|下面是|这是|這是|这里是|以下は|こちらは|こちらが|다음은|여기)"
)
_LABEL = (
    r"(?:(?:the |a )?(?:detailed |full |final |short |brief |complete )?(?:video |clip |scene |image |frame )?"
    r"(?:description|caption|summary|answer|response|output)(?: of the (?:video|clip|scene|image|frame))?"
    r"|(?:подробное )?описание(?: видео| клипа| сцены| кадра)?|опис(?: відео)?|(?:详细|視頻|视频|画面)?(?:描述|说明)"
    r"|動画の説明|説明|설명|descripción(?: del (?:vídeo|video|clip))?|(?:video)?beschreibung(?: des videos)?"
    r"|description(?: de la vidéo| du clip)?|descrizione(?: del video)?|descrição(?: do vídeo)?|opis)"
)

INTRODUCTION = re.compile(
    rf"{_GAP}(?:"
    rf"(?:{_YES})[ \u00a0\u202f]?(?:[!！.。][\s*]{{1,8}}|[!！。，,][\s*]{{0,8}}(?={_HERE})|[:：]\s{{0,8}}"
    rf"|[!！。，](?=[\u3040-\u9fff]))"
    rf"|{_HERE}[^\n.!?。！？:：,，]{{0,80}}{_WORD}[^\n.!?。！？:：]{{0,160}}"
    r"(?:[:：][*_]{0,3}\s{0,8}|[.。][*_]{0,3}\s{0,4}\n\s{0,8}|\n\s{0,8})"
    rf"|[*_]{{0,3}}{_LABEL}[*_]{{0,3}}[ \u00a0\u202f]?[:：][*_]{{0,3}}\s{{0,8}}"
    r")",
    re.IGNORECASE,
)
"""The words to the user at the beginning of an answer."""

_ENDS = r"(?:(?<=[.!?…。！？।॥؟۔\"'”’»)\]*_])\s{1,8}|(?<=[。！？])|\n\s{0,8}|^)[*_(\[>-]{0,4}\s?"
OFFER = re.compile(
    rf"{_ENDS}(?:"
    r"(?:please )?(?:let me know|feel free to|don't hesitate|do not hesitate|just (?:ask|let me know))\b"
    r"|(?:would|do) you (?:like|want|need)\b|if (?:you(?:'d| would| have| need| want| like)|there(?:'s"
    r"| is) anything)\b"
    r"|i(?: sincerely)? hope (?:this|that|it|you)\b|hope (?:this|that|it) helps\b|is there anything (?:else|you)\b"
    r"|i(?:'d| would|'m| am) (?:be )?(?:happy|glad) to\b|i can (?:also )?(?:provide|add|describe|give|expand)\b"
    r"|thank you for (?:sharing|watching|the|your)\b|please note that (?:this|i)\b|note: (?:this|the|i)\b"
    r"|(?:word count|total words?|words?)\s?[:：]\s?~?\d|\(?(?:approximately |about "
    r"|around )?\d{2,4} words\)?\.?\s{0,4}$"
    r"|(?:end of (?:the )?(?:description|caption))\b"
    r"|(?:пожалуйста, )?(?:дайте (?:мне )?знать|сообщите,? (?:мне,? )?если|обращайтесь|не стесняйтесь)\b"
    r"|если (?:вам|у вас|вы|тебе|хотите|нужн|потреб|необходимо)|надеюсь, (?:это|что|описание|вам)\b"
    r"|хотите,? (?:чтобы|ли|я)\b"
    r"|я могу (?:также )?(?:дополнить|описать|добавить|уточнить)|(?:количество|число) слов\b"
    r"|(?:дайте (?:мені )?знати|якщо (?:вам|у вас|ви|потрібно)|сподіваюся)"
    r"|(?:如果|若|如)(?:您|你|需|有)|希望(?:这|這|以上|对您|对你|我的)|请(?:告诉|告知|随时)|請(?:告訴|告知|隨時)"
    r"|需要我|您(?:需要|想|还)|有什么(?:其他|需要)"
    r"|(?:もし|ご(?:不明|質問|希望|要望)|他に|さらに詳し|お役に)[^\n]{0,60}(?:ください|ですか|ます)|(?:더 |추가로 "
    r"|혹시 )?(?:필요하(?:시면|신)|궁금)"
    r"|¿(?:te|le|les) gustaría|¿(?:quieres|quiere|desea|deseas|necesitas)\b"
    r"|si (?:necesitas?|quieres?|deseas?|tienes?|tiene|te gustaría|le gustaría)\b|espero que (?:esto|esta|te|le|la"
    r"|sea)\b"
    r"|(?:avísame|avíseme|házmelo saber|hágamelo saber|déjame saber|no dudes? en)\b"
    r"|(?:lass(?:en sie)? (?:es )?mich (?:gerne )?wissen|sag(?:en sie)? mir|gib mir bescheid|geben sie mir bescheid"
    r"|zögern sie)\b"
    r"|(?:wenn|falls) (?:du|sie) (?:möchten|möchtest|wünschen|weitere|mehr|noch|eine|fragen|wollen|willst|etwas)\b"
    r"|(?:möchten sie|möchtest du|soll ich|kann ich (?:ihnen|dir))\b|ich hoffe,? (?:das|dass|diese|die)\b"
    r"|gerne? (?:kann|beschreibe|ergänze) ich\b"
    r"|n'hésite[zs]?\b|si (?:vous|tu) (?:souhaite[zs]?|voule[zs]?|veux|avez|as|désire[zs]?)\b"
    r"|faites-(?:le-)?moi savoir\b|dites-moi\b"
    r"|j'espère que\b|(?:souhaitez|voulez|désirez)-vous\b|souhaites-tu\b|veux-tu\b|je peux (?:également "
    r"|aussi )?(?:ajouter|fournir|décrire)\b"
    r"|fammi sapere\b|se (?:vuoi|desideri|hai bisogno)\b|spero che (?:questo|questa|ti)\b|se (?:precisar|quiser"
    r"|desejar)\b|espero que (?:isso|esta)\b"
    r"|daj(?:cie)? (?:mi )?znać\b|jeśli (?:chcesz|potrzebujesz|masz)\b|laat (?:het )?me (?:gerust )?weten\b"
    r"|als je (?:wilt|meer|nog)\b"
    r")",
    re.IGNORECASE | re.MULTILINE,
)
"""The beginning of a sentence to the user, behind the caption."""

THINKING_ALOUD = re.compile(
    r"[\s*_#>\"“]{0,8}(?:(?:okay|ok|alright|all right|so|hmm+|got it|wait|well|now|right|first|let me see"
    r"|yes)[,.:;!…]{0,3}\s{1,3}){0,4}"
    r"(?:(?:i|we)(?: really)? (?:need to|should|have to|must|am going to|are going to|want to|think i"
    r"|will (?:now )?(?:describe|analy[sz]e|write|look))\b"
    r"|i'(?:ll|m going to|m asked to|ve been asked to)\b|i (?:am|was|have been) (?:asked|given|supposed|tasked)\b"
    r"|we(?:'re| are) (?:asked|given|tasked)\b"
    r"|let(?:'s| us| me) (?:see|think|look|start|begin|go|describe|analy[sz]e|break|figure|tackle|write|count|check"
    r"|recall|consider|try|watch|examine)\b"
    r"|the user (?:wants|want|asks|asked|is asking|has (?:asked|provided|given)|needs|provided|gave|would like|says"
    r"|said|requested)\b"
    r"|my task is\b|the task is to\b|thinking process\b|thought process\b|thought:\s|reasoning:\s"
    r"|(?:хорошо|итак|так|ладно|окей|ну)?[,.]?\s?(?:мне (?:нужно|надо|следует)|я (?:должен|должна)"
    r"|пользователь (?:хочет|просит|попросил|спрашивает|предоставил)|"
    r"давай(?:те)? (?:посмотр|разбер|опиш|подума|начн)|нужно описать|нам нужно)"
    r"|(?:好的?|嗯|首先|那么)?[，,。]?\s?(?:用户(?:要求|想|让|希望|给|提供|需要)|我(?:现在)?(?:需要|应该|得|要先)"
    r"|让我(?:们)?(?:先|来|看|想|仔细)|我们(?:需要|应该|来看))"
    r"|(?:also|okay|gut|na gut|nun)?[,.]?\s?(?:ich (?:muss|soll|sollte)\b|der (?:nutzer|benutzer) (?:möchte|will"
    r"|bittet|fragt)\b|lass(?:t uns| mich) (?:mal )?\w{2,20}\b)"
    r"|(?:bien|bueno|vale|de acuerdo)?[,.]?\s?(?:(?:necesito|debo|tengo que) \w{3,20}\b|el usuario (?:quiere|pide"
    r"|solicita)\b|veamos\b|vamos a (?:ver|describir|analizar)\b)"
    r"|(?:bon|bien|d'accord|okay|alors)?[,.]?\s?(?:je dois \w{3,20}\b|il faut que je\b|l'utilisateur (?:veut"
    r"|demande|souhaite)\b|voyons\b|regardons\b)"
    r")",
    re.IGNORECASE,
)
"""The beginning of an answer that is reasoning without tags: a caption has no "I", and no user."""
