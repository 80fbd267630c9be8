// Drawings of product types, 64 by 64 units, for products without pictures.

const circle = (x, y, r) => oval(x, y, r, r);
const oval = (x, y, a, b) => `M${x - a} ${y}a${a} ${b} 0 1 0 ${2 * a} 0a${a} ${b} 0 1 0 ${-2 * a} 0z`;
const box = (x, y, w, h, r = 3) =>
  `M${x + r} ${y}h${w - 2 * r}a${r} ${r} 0 0 1 ${r} ${r}v${h - 2 * r}a${r} ${r} 0 0 1 ${-r} ${r}` +
  `h${2 * r - w}a${r} ${r} 0 0 1 ${-r} ${-r}v${2 * r - h}a${r} ${r} 0 0 1 ${r} ${-r}z`;
const COAT = "M22 14l-12 6-6 34h9l4-20v22h30V34l4 20h9l-6-34-12-6z";
const KEYS = [24, 32].flatMap((y) => [9, 16, 23, 30, 37, 44, 51].map((x) => box(x, y, 5, 5, 1))).join("");

/**
 * Words that name a kind, then its parts: the paint and the outline of each. The paints are (m)ain, (d)arker and
 * (l)ighter, (k) black, (g)rey metal, (w)hite, (n) wood, (y)ellow light, (v) leaves; (s), (h) and (t) are lines: main,
 * black, thin.
 */
const DRAWINGS = [
  ["drill|drill driver|impact driver|电钻(?!用)", "m", box(8, 18, 36, 15, 6), "k", box(44, 22, 7, 7, 1), "g", "M51 24h9v3h-9z", "d", "M14 32h13l3 17H17z", "k", box(12, 47, 24, 9, 2) + "M28 34h5v5h-4z"],
  ["drill bit|drill bit set|钻头|钻头套装", "g", "M12 10h6v34h-6zM23 16h5v28h-5zM33 22h5v22h-5zM43 28h4v16h-4zM51 33h3v11h-3z", "m", box(7, 42, 51, 13, 3)],
  ["case|organizer|tool box|tool storage|toolbox|收纳盒", "h", "M24 22v-6h16v6", "m", box(7, 22, 50, 31, 4), "d", "M7 34h50v4H7z", "w", box(28, 32, 8, 8, 2)],
  ["battery", "k", box(20, 12, 24, 9, 2), "m", box(14, 19, 36, 35, 4), "w", "M34 25l-10 13h7l-3 11 11-15h-7z"],
  ["saw", "g", circle(34, 38, 19), "k", circle(34, 38, 4), "m", "M11 38a23 23 0 0 1 46 0h-8a15 15 0 0 0-30 0z", "d", "M8 10h24a6 6 0 0 1 0 12H20l-4 8H8z"],
  ["saw blade|blade", "z", circle(32, 32, 20), "d", circle(32, 32, 9), "w", circle(32, 32, 4)],
  ["sander", "d", "M22 10h20a6 6 0 0 1 6 6v8H16v-8a6 6 0 0 1 6-6z", "m", box(14, 20, 36, 20, 8), "k", box(10, 40, 44, 8, 3), "g", box(13, 48, 38, 5, 2)],
  ["sanding disc|disc", "d", circle(39, 26, 18), "m", circle(25, 38, 18), "l", circle(25, 38, 3) + circle(17, 33, 2) + circle(33, 33, 2) + circle(25, 47, 2)],
  ["screwdriver|screwdriver set|螺丝刀|螺丝刀套装", "g", "M30 6h4v30h-4z", "m", box(24, 33, 16, 26, 6), "d", "M29 37h2v18h-2zM33 37h2v18h-2z"],
  ["wrench|tool|扳手|五金工具", "g", "M46 8a13 13 0 0 0-14 18L11 47a5 5 0 0 0 8 8l21-21a13 13 0 0 0 18-14l-8 7-8-2-2-8z"],
  ["hammer", "n", "M29 20h6v20h-6z", "g", "M12 10h32q9 1 11 10H44v6H20v-4h-8z", "m", box(26, 36, 12, 24, 5)],
  ["tape measure|measuring tape", "m", box(8, 14, 36, 37, 9), "k", circle(26, 32, 10), "l", circle(26, 32, 4), "y", "M44 44h14v6H44z", "k", "M56 43h4v10h-4z"],
  ["pan|平底锅", "k", "M42 30h17a3.500 3.500 0 0 1 0 7H42z", "m", circle(25, 33, 20), "d", circle(25, 33, 15)],
  ["saucepan|cookware|kitchen|厨房用品", "k", "M46 29h14v5H46z", "m", "M10 26h37v23a6 6 0 0 1-6 6H16a6 6 0 0 1-6-6z", "d", box(7, 22, 43, 6, 2)],
  ["lid", "k", circle(32, 17, 5), "m", "M7 44a25 23 0 0 1 50 0z", "d", box(5, 43, 54, 6, 2)],
  ["knife|刀|菜刀", "g", "M3 40Q18 18 40 20v20z", "m", box(39, 22, 22, 13, 4), "k", circle(46, 28, 1.5) + circle(54, 28, 1.5)],
  ["sharpener", "m", box(8, 24, 48, 24, 9), "k", "M18 24l5 12 5-12zM35 24l5 12 5-12z", "d", box(6, 46, 52, 6, 2)],
  ["mug|coffee mug|马克杯", "s", "M44 25h5a8 8 0 0 1 0 17h-6", "m", box(11, 17, 35, 38, 6), "l", box(16, 23, 4, 24, 2)],
  ["travel mug", "m", "M19 20h26l-4 38H23z", "k", box(16, 11, 32, 9, 3), "d", "M20.500 32h23l-1 9h-21z"],
  ["flask|保温杯", "m", box(21, 20, 22, 39, 6), "k", box(24, 6, 16, 15, 3), "d", "M21 29h22v5H21z", "l", box(25, 37, 3, 16, 1)],
  ["bottle|water bottle", "m", "M25 22q-6 5-6 12v20a5 5 0 0 0 5 5h16a5 5 0 0 0 5-5V34q0-7-6-12z", "d", "M19 38h26v8H19z", "k", box(24, 6, 16, 16, 4)],
  ["coffee maker", "m", "M12 8h40v12H25v26h27v11H12z", "g", "M30 27h19l-2 18H32z", "k", box(28, 23, 23, 5, 1)],
  ["filter|paper filter", "w", "M9 14h46L39 53H25z", "t", "M17 15l10 37M25 15l5 37M39 15l-5 37M47 15L37 52"],
  ["kettle|水壶|电热水壶", "h", "M42 18q15 0 13 17t-7 12", "k", box(24, 11, 12, 9, 3), "m", "M18 20h24l6 33a4 4 0 0 1-4 4H16a4 4 0 0 1-4-4zM15 38L4 26h7l6 5z", "l", box(20, 28, 4, 20, 2)],
  ["blender", "k", box(18, 4, 28, 5, 1), "l", "M17 9h30l-5 27H22z", "m", box(17, 36, 30, 22, 5), "k", circle(32, 47, 6)],
  ["cutting board|board|砧板", "m", box(13, 6, 38, 52, 7), "d", "M21 6h3v52h-3zM37 6h3v52h-3z", "w", circle(30, 14, 4)],
  ["container", "l", box(9, 32, 46, 24, 5), "m", box(7, 26, 50, 8, 3), "l", box(17, 14, 30, 10, 3), "d", box(15, 9, 34, 6, 2)],
  ["earbud|耳机|真无线蓝牙耳机", "m", circle(20, 22, 10) + "M17 24h8v26a4 4 0 0 1-8 0z" + circle(44, 22, 10) + "M39 24h8v26a4 4 0 0 1-8 0z", "k", circle(16, 21, 5) + circle(48, 21, 5)],
  ["headphone|electronics|audio|头戴式耳机|头戴式无线耳机|数码电器", "h", "M13 40v-5a19 20 0 0 1 38 0v5", "m", box(6, 35, 15, 23, 6) + box(43, 35, 15, 23, 6), "d", box(16, 37, 6, 19, 3) + box(42, 37, 6, 19, 3)],
  ["earbud case|silicone case", "m", box(12, 16, 40, 34, 14), "d", "M12 29h40v3H12z", "w", circle(32, 38, 2)],
  ["speaker|音箱|蓝牙音箱", "m", box(15, 5, 34, 54, 8), "k", circle(32, 39, 13), "g", circle(32, 39, 6), "k", circle(32, 16, 6)],
  ["power bank|移动电源", "m", box(16, 6, 32, 52, 7), "k", box(25, 6, 14, 4, 1), "w", "M34 20l-9 13h6l-2 10 10-14h-6z"],
  ["charger|充电器", "g", "M22 6h6v14h-6zM36 6h6v14h-6z", "m", box(13, 18, 38, 39, 8), "k", box(25, 44, 14, 6, 3)],
  ["cable|数据线", "s", "M14 18v8q0 14 15 13h6q15 0 15 12", "k", box(10, 5, 8, 15, 2) + box(46, 46, 8, 14, 2), "g", "M12 2h4v4h-4zM48 60h4v3h-4z"],
  ["keyboard|键盘|机械键盘", "m", box(3, 18, 58, 29, 5), "w", KEYS + box(18, 40, 28, 4, 1)],
  ["mouse|鼠标", "m", "M32 7a16 16 0 0 1 16 16v18a16 16 0 0 1-32 0V23A16 16 0 0 1 32 7z", "d", "M31 7h2v20h-2z", "k", box(29.5, 13, 5, 10, 2)],
  ["mouse pad|mousepad", "m", box(5, 13, 54, 40, 5), "l", "M10 18h44v2H10z", "k", box(36, 25, 12, 19, 6)],
  ["laptop sleeve|sleeve|laptop case", "m", box(7, 13, 50, 40, 6), "d", "M7 22q25 19 50 0v5q-25 19-50 0z", "k", circle(32, 34, 3)],
  ["running shoe|shoe|sneaker|跑步鞋|鞋", "m", "M5 34q9 1 14-11l7-1 9 9q8 7 20 9 5 1 5 8H7q-4-6-2-14z", "w", box(3, 46, 58, 8, 4), "t", "M24 24l-4 5M29 28l-5 5M34 33l-5 5"],
  ["boot|hiking boot", "m", "M15 6h20v24q4 6 16 8 7 2 7 10H13z", "k", box(11, 47, 48, 9, 3), "t", "M25 14h10M25 20h10M26 26h10"],
  ["lace|shoe lace", "s", "M10 14q46 4 24 19T54 50", "d", "M6 11h7v5H6zM51 48h8v5h-8z"],
  ["t-shirt|shirt|top|clothing|t恤|T恤|上装|服饰鞋包", "m", "M22 9q10 8 20 0l17 9-6 14-7-3v27H18V29l-7 3-6-14z", "d", "M22 9q10 8 20 0l2 1q-12 11-24 0z"],
  ["hoodie|卫衣", "m", COAT, "d", "M20 15q12-14 24 0 0 11-12 15-12-4-12-15z" + box(22, 40, 20, 11, 3), "w", "M28 28h2v11h-2zM34 28h2v11h-2z"],
  ["jacket|rain jacket|coat|羽绒服|外套", "m", COAT, "d", "M21 14q11-10 22 0l-6 9H27z", "t", "M32 23v33M21 42h7M36 42h7"],
  ["dress|连衣裙", "m", "M22 6h5l5 7 5-7h5l1 20 11 32H10l11-32z", "d", "M21 25h22l1 5H20z"],
  ["jeans|trousers|pants", "m", "M17 5h30l4 54H37l-5-31-5 31H13z", "d", "M17 5h30l.5 7h-31z", "t", "M32 12v14M19 16q6 4 8-4M45 16q-6 4-8-4"],
  ["sock", "m", "M17 6h16v26l15 11q7 8-4 14-7 2-13-4L17 40z", "l", "M17 6h16v8H17z", "d", "M41 38l7 5q7 8-4 14-3 1-6 0 8-8 3-19z"],
  ["glove", "m", "M19 30V13a4 4 0 0 1 8 0v-4a4 4 0 0 1 8 0v3a4 4 0 0 1 8 0v6a4 4 0 0 1 7 1v25a8 8 0 0 1-8 8H28a8 8 0 0 1-8-5L9 34a4 4 0 0 1 6-5z", "d", box(22, 48, 26, 11, 3)],
  ["tent|outdoor|camping|帐篷|户外运动", "m", "M32 8L3 54h58z", "d", "M32 8l15 46H17z", "k", "M32 24l9 30H23z"],
  ["stake|tent stake", "g", "M12 8h9v5h-3l-1 42-3-42h-2zM28 8h9v5h-3l-1 42-3-42h-2zM44 8h9v5h-3l-1 42-3-42h-2z"],
  ["sleeping bag", "m", "M19 16a13 13 0 0 1 26 0l2 38a5 5 0 0 1-5 5H22a5 5 0 0 1-5-5z", "d", circle(32, 17, 8), "l", "M18.500 34h27v3h-27zM18 45h28v3H18z"],
  ["sleeping pad|pad", "m", box(5, 20, 48, 25, 5), "d", circle(49, 32, 12), "l", circle(49, 32, 5)],
  ["backpack|双肩包|包", "h", "M24 13a8 8 0 0 1 16 0", "d", box(8, 30, 8, 20, 3) + box(48, 30, 8, 20, 3), "m", box(13, 11, 38, 46, 13), "d", box(19, 34, 26, 17, 4), "l", "M21 25h22v3H21z"],
  ["cover|rain cover|slipcover", "m", "M9 28q23-32 46 0l4 24q-27 10-54 0z", "d", "M22 21q-7 16-7 33l5 1q0-17 6-36zM42 21q7 16 7 33l-5 1q0-17-6-36z"],
  ["headlamp", "s", "M7 38a25 22 0 0 1 50 0", "k", box(18, 28, 28, 22, 7), "y", circle(32, 39, 8)],
  ["flashlight|手电筒", "k", box(23, 28, 18, 32, 4), "g", "M17 10h30l-6 18H23z", "y", box(15, 5, 34, 6, 2), "w", box(29, 36, 6, 8, 2)],
  ["helmet|头盔", "m", "M6 42a26 27 0 0 1 52-3l3 6H6z", "k", "M20 20l-4 14h6l4-17zM34 17l3 17h6l-3-15z", "h", "M15 45q6 13 19 11"],
  ["bike light|bike light set|headlight", "m", box(25, 44, 14, 14, 3), "k", box(12, 14, 40, 32, 11), "y", circle(32, 30, 12), "w", circle(32, 30, 6)],
  ["shampoo|conditioner|beauty|洗发水|美妆个护", "k", "M28 4h16v5H35v9h-7z", "m", box(17, 18, 30, 41, 7), "w", box(22, 32, 20, 16, 2)],
  ["moisturizer|cream", "m", box(11, 27, 42, 29, 7), "g", box(9, 16, 46, 13, 3), "w", box(20, 37, 24, 9, 2)],
  ["sunscreen|cleanser|防晒霜|洁面乳|洁面", "m", "M15 5h34l-6 42H21z", "k", box(23, 46, 18, 13, 3), "y", circle(32, 23, 8)],
  ["dryer|hair dryer|吹风机", "d", "M17 34h13l4 24H22z", "m", "M20 10h24l15-3v30l-15-4H20a12 12 0 0 1 0-23z", "k", circle(20, 22, 6)],
  ["lip balm|balm|唇膏|润唇膏", "m", "M26 32V17q0-7 12-9v24z", "g", box(24, 28, 16, 6, 1), "k", box(22, 33, 20, 26, 3)],
  ["dog bed", "m", oval(32, 42, 29, 15), "l", oval(32, 38, 20, 8)],
  ["leash|牵引绳", "s", "M34 36Q12 38 10 56", "m", box(28, 10, 29, 36, 13), "k", box(37, 19, 11, 18, 5), "g", circle(10, 57, 4)],
  ["dog food|food|pet|宠物用品", "m", "M13 6h38l4 48a5 5 0 0 1-5 5H14a5 5 0 0 1-5-5z", "w", circle(32, 34, 13), "d", oval(32, 38, 5, 4) + circle(26, 32, 2.2) + circle(32, 29, 2.2) + circle(38, 32, 2.2)],
  ["litter|cat litter|猫砂", "m", "M6 34h52l-5 19a4 4 0 0 1-4 3H15a4 4 0 0 1-4-3z", "l", "M9 34q23-22 46 0z", "d", box(4, 31, 56, 6, 2)],
  ["cat tree|tower|猫爬架", "n", "M29 12h6v42h-6zM17 36h5v18h-5z", "m", box(6, 52, 52, 7, 2) + box(10, 33, 25, 6, 2) + box(22, 7, 34, 8, 3)],
  ["brick|building brick|积木(?!喵)", "m", box(6, 37, 26, 20, 2) + "M10 33h7v4h-7zM21 33h7v4h-7z", "d", box(32, 37, 26, 20, 2) + "M36 33h7v4h-7zM47 33h7v4h-7z", "y", box(19, 13, 26, 20, 2) + "M23 9h7v4h-7zM34 9h7v4h-7z"],
  ["puzzle|jigsaw|拼图", "m", "M10 12h15a7 7 0 1 1 13 0h15v14a7 7 0 1 0 0 13v15H38a7 7 0 1 0-13 0H10V39a7 7 0 1 1 0-13z"],
  ["bear|plush|toy|毛绒玩具|母婴玩具", "m", circle(15, 15, 8) + circle(49, 15, 8) + circle(32, 34, 23), "l", oval(32, 42, 11, 8), "k", circle(24, 30, 2.5) + circle(40, 30, 2.5) + oval(32, 38, 4, 2.5)],
  ["car|truck", "t", "M13 36V10", "m", "M4 38l7-2 8-14h23l10 13 9 4v10H4z", "l", "M22 34l5-8h13l7 8z", "k", circle(17, 49, 8) + circle(47, 49, 8), "g", circle(17, 49, 3) + circle(47, 49, 3)],
  ["board game|game", "m", box(7, 7, 50, 50, 4), "w", "M13 13h13v13H13zM39 13h12v13H39zM26 26h13v13H26zM13 39h13v12H13zM39 39h12v12H39z"],
  ["hose|garden hose", "s", circle(30, 30, 22) + circle(30, 30, 13) + "M30 52h24", "k", box(52, 47, 9, 10, 2)],
  ["nozzle|hose nozzle", "m", "M7 12h28l6 8v12H27l-4 26H12l2-27H7z", "k", box(40, 14, 18, 21, 5), "g", "M58 18h3v13h-3z"],
  ["pruner|shear|修枝剪", "g", "M30 34L20 5q14 6 18 26zM34 34q-6-10 6-22 6 12 0 22z", "s", "M34 32L18 57M31 32l16 25", "k", circle(33, 32, 3)],
  ["mower|lawn mower", "h", "M38 38L54 10h7", "d", box(14, 26, 20, 11, 4), "m", "M6 36h38l8 14H6z", "k", circle(15, 51, 8) + circle(47, 51, 8), "g", circle(15, 51, 3) + circle(47, 51, 3)],
  ["pot|plant pot|planter|garden|花盆|园艺绿植", "v", "M32 28q-21-1-19-20 19 0 19 20zM32 28q0-18 18-23 5 20-18 23z", "m", "M13 32h38l-5 25a3 3 0 0 1-3 2H21a3 3 0 0 1-3-2z", "d", box(10, 27, 44, 8, 2)],
  ["feeder|bird feeder", "m", "M32 5L8 24h48z", "l", box(17, 24, 30, 25, 2), "n", "M17 38h30v11H17z", "d", box(10, 49, 44, 7, 2)],
  ["pen|ballpoint pen|office|中性笔|办公文具", "m", "M14 42L42 9q8-5 12 5L24 50z", "k", "M8 57l6-15 10 8z", "d", "M39 13l10 9 3-4-10-9z"],
  ["notebook|hardcover notebook|笔记本", "m", box(12, 5, 42, 54, 4), "d", box(12, 5, 9, 54, 3), "w", box(28, 15, 19, 9, 2)],
  ["sticky note|便利贴", "m", "M9 9h46v32L41 55H9z", "l", "M55 41H41v14z", "t", "M17 20h28M17 28h28M17 36h18"],
  ["stapler", "g", box(14, 35, 44, 5, 1), "k", box(4, 44, 56, 9, 3) + circle(12, 40, 7), "m", "M5 34q4-22 30-16 18 4 25 12v6z"],
  ["staple|standard staple", "g", "M10 14h44v20h-5V19H15v15h-5zM10 38h44v20h-5V43H15v15h-5z"],
  ["sofa|sofa bed|couch|furniture|沙发|家居家具", "k", "M12 52h5v5h-5zM47 52h5v5h-5z", "m", box(9, 16, 46, 26, 7), "d", box(3, 28, 12, 26, 6) + box(49, 28, 12, 26, 6), "l", box(14, 36, 36, 14, 4)],
  ["bookshelf|shelf", "m", "M11 5h42v54h-5V10H16v49h-5zM14 24h36v4H14zM14 42h36v4H14z", "d", "M18 12h5v12h-5zM30 30h4v12h-4z", "y", "M25 14h4v10h-4zM20 32h5v10h-5z", "v", "M36 32h6v10h-6zM40 13h5v11h-5z"],
  ["chair|office chair", "m", box(17, 5, 30, 29, 9), "d", box(14, 36, 36, 9, 4), "k", "M30 45h4v7h14v5H16v-5h14z" + circle(18, 58, 3) + circle(46, 58, 3)],
  ["desk lamp|lamp|台灯", "h", "M34 18L18 33l11 20", "y", circle(46, 27, 6), "m", "M34 6l22 15-16 11-12-16z", "k", box(16, 52, 28, 7, 3)],
  ["power strip|插线板", "h", "M50 32q14 0 10 22", "m", box(4, 20, 50, 24, 7), "w", circle(15, 32, 6) + circle(30, 32, 6) + circle(44, 32, 6), "k", "M13 30h1.500v4H13zM16 30h1.500v4H16zM28 30h1.500v4H28zM31 30h1.500v4H31zM42 30h1.500v4H42zM45 30h1.500v4H45z"],
  ["rice cooker|电饭煲", "k", box(26, 12, 12, 8, 3), "m", box(7, 19, 50, 38, 14), "d", "M7 30h50v3H7z", "w", box(25, 39, 14, 10, 3)],
  ["pole|登山杖", "g", "M30 16h4v44h-4z", "m", box(27, 4, 10, 20, 5), "k", box(24, 50, 16, 4, 2), "h", "M34 8q14 8 3 18"],
  ["laptop|computer|notebook pc|notebook computer|笔记本电脑|电脑", "k", box(12, 10, 40, 30, 3), "l", "M15 13h34v24H15z", "m", "M6 42h52l4 10H2z"],
  ["monitor|display|television|tv|显示器|电视", "k", box(5, 9, 54, 36, 3), "l", "M9 13h46v28H9z", "m", "M28 45h8v7h10v4H18v-4h10z"],
  ["phone|smartphone|手机", "k", box(18, 4, 28, 56, 6), "l", "M21 10h22v42H21z", "m", "M21 31h22v21H21z"],
  ["printer|打印机", "w", "M18 6h28v18H18z", "m", box(7, 22, 50, 24, 5), "w", "M16 38h32v20H16z", "t", "M22 45h20M22 51h14"],
  ["book|书", "m", "M32 14Q20 6 6 10v42q14-4 26 4z", "d", "M32 14q12-8 26-4v42q-14-4-26 4z", "w", "M32 19q-10-6-22-4v32q12-2 22 4zM32 19q10-6 22-4v32q-12-2-22 4z"],
];
const PARCEL = ["n", box(9, 15, 46, 41, 3), "y", "M27 15h10v41H27z", "t", "M9 28h46"];

/**
 * Words that name things of several trades, or a trade, with what the category must say to consent to the drawing: a
 * notebook is of paper only in stationery.
 */
const CONSENTS = new Map([
  ["notebook|笔记本|office|pen", /^(?!.*(computer|laptop|notebook pc|electronic|电脑|数码)).*(office|paper|station|school|writing|desk|办公|文具)/],
  ["blade|disc|tool|case", /tool|hardware|五金|工具/],
  ["board|pan|filter|container|lid|kitchen", /kitchen|cook|bak|food|coffee|dining|厨|锅/],
  ["top|clothing|lace|glove", /cloth|apparel|fashion|shoe|wear|garment|服|鞋/],
  ["pad|outdoor|camping|pole|cover", /outdoor|camp|sport|hik|bik|furniture|sofa|户外|运动|登山/],
  ["cream|beauty", /beaut|skin|cosmetic|health|care|美妆|护/],
  ["food|pet|tower", /pet|dog|cat\b|cats|animal|宠|猫|狗/],
  ["brick|car|truck|game|toy|bear", /toy|game|kid|child|bab|玩具/],
  ["pot|garden|feeder|nozzle", /garden|plant|bird|lawn|water|园|花/],
  ["electronics|audio", /electronic|audio|数码/],
  ["furniture|shelf", /furniture|home|storage|家/],
].flatMap(([words, consent]) => words.split("|").map((word) => [word, consent])));

const WORDS = DRAWINGS.flatMap(([words, ...parts]) => words.split("|").map((word) => ({ word, parts, find: finder(word) })));
/** The end of the head of a title's noun phrase. */
const REST = /[,(（，]| - | (?:for|with|by|in|of) /i;

/** The drawing for a product, by the type that its title names last, else by its category, else a parcel. */
export function drawingOf({ title, category }) {
  const path = category.join(" > ").toLowerCase();
  for (const text of [title.split(REST)[0], title, ...category.toReversed()]) {
    const found = named(text.slice(0, 200), path);
    if (found) return found;
  }
  return PARCEL;
}

/** The drawing of the word that ends last in a text and that the category consents to; of several, the longest. */
function named(text, path) {
  let best = null;
  let end = 0;
  for (const { word, parts, find } of WORDS) {
    if (CONSENTS.get(word)?.test(path) === false) continue;
    find.lastIndex = 0;
    for (const match of text.matchAll(find)) {
      const at = match.index + match[0].length;
      if (at > end || (at === end && word.length > best.word.length)) [best, end] = [{ word, parts }, at];
    }
  }
  return best?.parts;
}

function finder(word) {
  return /[^\x00-\x7f]/.test(word) ? new RegExp(word, "gi") : new RegExp(`(?<![\\w-])${word}(?:e?s)?(?![\\w-])`, "gi");
}
