// The texts of the store page, in English and Chinese; texts of the store itself are not translated.

import { browser } from "./visitor.js";

/** The English and the Chinese text by name; a name that ends in ".one" is the text for one thing. */
const TEXTS = {
  "store": ["Store", "商店"],
  "skip": ["Skip to the products", "跳到商品"],
  "search": ["Search", "搜索"],
  "search hint": ["Search products", "搜索商品"],
  "clear": ["Clear the search", "清空搜索"],
  "search by picture": ["Search by a picture", "用图片搜索"],
  "like your picture": ["Products that look like your picture", "与您的图片相似的商品"],
  "your picture": ["Your picture", "您的图片"],
  "suggestions": ["Suggestions", "搜索建议"],
  "suggested queries": ["Searches", "搜索"],
  "popular searches": ["Popular searches", "热门搜索"],
  "recent searches": ["Recent searches", "最近搜索"],
  "forget searches": ["Clear recent searches", "清除最近搜索"],
  "suggested brands": ["Brands", "品牌"],
  "suggested products": ["Products", "商品"],
  "basket of": ["Basket, {count} items", "购物车，{count} 件"],
  "basket of.one": ["Basket, 1 item"],
  "home": ["Home", "回到首页"],
  "language": ["中文", "English"],
  "language label": ["中文: show this page in Chinese", "English：用英文显示本页"],
  "found": ["{count} products", "{count} 件商品"],
  "found.one": ["1 product"],
  "found for": ["{count} products for “{query}”", "“{query}”共有 {count} 件商品"],
  "found for.one": ["1 product for “{query}”"],
  "found like": ["{count} products similar to “{query}”", "与“{query}”相近的商品共 {count} 件"],
  "found like.one": ["1 product similar to “{query}”"],
  "found none": ["Nothing found for “{query}”", "没有找到“{query}”"],
  "results": ["Products", "商品"],
  "filters": ["Filters", "筛选"],
  "filters chosen": ["Filters ({count})", "筛选（{count}）"],
  "chosen": ["Chosen filters", "已选条件"],
  "narrow": ["Narrow the results", "缩小范围"],
  "remove": ["Remove {name}", "取消 {name}"],
  "clear all": ["Clear all", "全部清除"],
  "show results": ["Show {count} products", "查看 {count} 件商品"],
  "category": ["Category", "分类"],
  "all categories": ["All categories", "全部分类"],
  "price": ["Price", "价格"],
  "price from": ["From", "最低"],
  "price to": ["To", "最高"],
  "price set": ["Apply", "确定"],
  "find in": ["Find in {name}", "在{name}中查找"],
  "find none": ["Nothing found", "没有找到"],
  "stars up": ["{count} stars and up", "{count} 星及以上"],
  "stars up.one": ["1 star and up"],
  "any rating": ["Any rating", "不限评分"],
  "per page": ["Products per page", "每页商品数"],
  "hits per page": ["{size} per page", "每页 {size} 件"],
  "regular price": ["Regular price ", "原价 "],
  "sort": ["Sort by", "排序"],
  "sort.": ["Best match", "最相关"],
  "sort.price": ["Price, low to high", "价格从低到高"],
  "sort.-price": ["Price, high to low", "价格从高到低"],
  "sort.-rating": ["Best rated", "评分最高"],
  "sort.-created": ["Newest", "最新上架"],
  "pages": ["Pages", "翻页"],
  "previous": ["Previous", "上一页"],
  "next": ["Next", "下一页"],
  "page of": ["Page {page} of {pages}", "第 {page} 页，共 {pages} 页"],
  "listed first": ["Listed first: {values}.", "优先显示：{values}。"],
  "show only": ["Show only", "仅显示"],
  "at most": ["up to {high}", "{high} 以下"],
  "at least": ["from {low}", "{low} 以上"],
  "and comma": [", ", "、"],
  "one type": ["Only products of the type “{type}”.", "仅显示“{type}”这一类商品。"],
  "all types": ["Show all", "显示全部"],
  "did you mean": ["Did you mean", "您是不是想找"],
  "showing instead": ["No product has the words “{query}”. Showing products for", "没有商品含有“{query}”。以下结果对应"],
  "sponsored": ["Sponsored", "广告"],
  "paid by": ["Paid for by {advertiser}", "由 {advertiser} 付费"],
  "doubtful": ["No product matches “{query}” word for word. These come closest:", "没有完全符合“{query}”的商品，以下是最接近的："],
  "nearest": ["These products come closest:", "以下是最接近的商品："],
  "nearest beside": ["Similar products that match your filters:", "符合筛选条件的其他相近商品："],
  "degraded": ["Part of the search failed, so some products may be missing.", "搜索的一部分暂时不可用，结果可能不完整。"],
  "redirect": ["See this page:", "有一个专门的页面："],
  "none advice": ["Check the spelling, or use fewer or more general words.", "请检查错别字，或换更少、更常用的词。"],
  "none filtered": ["Fewer filters may give more results.", "减少筛选条件，也许会有更多商品。"],
  "without filters": ["Search without filters", "去掉筛选再搜索"],
  "out of reach": ["The store cannot be reached. Check the connection and try again.", "连接不上商店，请检查网络后重试。"],
  "refused": ["This cannot be shown: {message}", "无法显示：{message}"],
  "needs key": ["This store cannot be searched at the moment. Please try again later.", "暂时无法搜索本店，请稍后再试。"],
  "retry": ["Try again", "重试"],
  "rating": ["{rating} of 5 stars, {count} ratings", "{rating} 星（满分 5 星），{count} 人评价"],
  "rating.one": ["{rating} of 5 stars, 1 rating"],
  "no price": ["Price on request", "价格待询"],
  "add": ["Add to basket", "加入购物车"],
  "add named": ["Add to basket: {name}", "加入购物车：{name}"],
  "added": ["{name} is in the basket", "{name} 已加入购物车"],
  "availability.in_stock": ["In stock", "有货"],
  "availability.out_of_stock": ["Sold out", "售罄"],
  "availability.preorder": ["Pre-order", "预售"],
  "availability.backorder": ["On back order", "补货中"],
  "details": ["Details", "规格参数"],
  "description": ["Description", "商品介绍"],
  "variants": ["Choose", "请选择"],
  "variants of": ["{count} variants", "{count} 个款式"],
  "goes with": ["Goes with this", "搭配购买"],
  "instead": ["Alternatives", "可替代商品"],
  "answer": ["Answer", "解答"],
  "answer drop": ["Not about this", "与此无关"],
  "answer yes": ["Yes.", "是。"],
  "answer no": ["No.", "不是。"],
  "texts disagree": ["The store's texts disagree:", "本店的说明不一致："],
  "not said": ["No text of the store answers this.", "本店的说明没有提到。"],
  "nearest sentence": ["The nearest sentence of the description:", "描述中最接近的一句："],
  "store texts": ["From the store", "本店说明"],
  "question": ["A question about this product", "对这件商品有疑问？"],
  "ask": ["Ask", "提问"],
  "looks like it": ["Looks like this", "外观相似"],
  "similar": ["Similar products", "相似商品"],
  "back": ["Back to the products", "回到商品列表"],
  "gone title": ["This product is no longer available", "没有这件商品"],
  "gone advice": ["It may be sold out or discontinued.", "它可能已经售罄下架。"],
  "for you": ["For you", "为您推荐"],
  "seen": ["Recently viewed", "最近浏览"],
  "popular": ["Popular products", "大家喜欢"],
  "categories": ["Categories", "分类"],
  "welcome": ["What are you looking for?", "您想找什么？"],
  "welcome more": ["{count} products. Misspelled words are corrected.", "共有 {count} 件商品，打错字也能搜索。"],
  "browse all": ["See all products", "浏览全部商品"],
  "basket title": ["Basket", "购物车"],
  "basket empty": ["The basket is empty.", "购物车是空的。"],
  "quantity": ["Quantity of {name}", "{name} 的数量"],
  "take out": ["Remove", "移除"],
  "take out named": ["Remove {name} from the basket", "从购物车移除 {name}"],
  "removed": ["{name} was removed", "{name} 已移除"],
  "total": ["Total", "合计"],
  "buy": ["Buy", "购买"],
  "buy note": ["This page takes no orders: nothing is charged and nothing is sent.", "本页不接受订单：不会收费，也不会发货。"],
  "line gone": ["No longer available", "已下架"],
  "thanks title": ["Thank you", "谢谢惠顾"],
  "thanks": ["{count} items were bought as a test: nothing is charged and nothing is sent.", "已模拟购买 {count} 件商品：不会收费，也不会发货。"],
  "thanks.one": ["1 item was bought as a test: nothing is charged and nothing is sent."],
  "keep looking": ["Continue shopping", "继续逛逛"],
  "consent title": ["May we remember what you look at?", "可以记住您浏览的商品吗？"],
  "consent": [
    "With your consent, this store records searches, clicks and purchases under a random id, to show what suits you and to improve its results. Without it, nothing is recorded.",
    "如果您同意，本店会以随机名称记录搜索、点击和购买，用来推荐合适的商品并改进搜索。不同意则不会记录任何内容。",
  ],
  "consent yes": ["Agree", "同意"],
  "consent no": ["Decline", "不同意"],
  "privacy": ["Privacy choices", "隐私选择"],
  "privacy asked": ["Your browser requests privacy: nothing you do here is recorded.", "您的浏览器要求保护隐私：您在这里的操作不会被记录。"],
  "footer": ["", ""],
  "admin": ["Admin", "管理"],
  "unit": [", {unit}", "（{unit}）"],
  "yes": ["yes", "是"],
  "no": ["no", "否"],
  "field.availability": ["Availability", "库存"],
  "field.rating": ["Rating", "评分"],
  "field.sku": ["SKU", "货号"],
  "field.ean": ["EAN", "条码"],
  "field.upc": ["UPC"],
  "field.gtin": ["GTIN"],
  "field.isbn": ["ISBN"],
  "field.mpn": ["Model number", "型号"],
  "field.spf": ["SPF", "防晒指数"],
  "field.gender": ["Gender", "适用性别"],
  "field.package_weight": ["Package weight", "包装重量"],
  "field.tip": ["Tip", "笔尖"],
  "field.timer": ["Timer", "定时"],
  "field.age_from": ["Age from", "适用年龄（岁起）"],
  "field.skin_type": ["Skin type", "肤质"],
  "field.hair_type": ["Hair type", "发质"],
  "field.ruling": ["Ruling", "内页"],
  "field.seats": ["Seats", "座位"],
  "field.lumens": ["Lumens", "亮度（流明）"],
};

const LOCALES = { en: "en", zh: "zh-CN" };
/** Units as suffixes of field names, with their spelling. */
const UNITS = Object.fromEntries(["kg", "g", "mg", "lb", "oz", "km", "m", "cm", "mm",
  "in", "ft", "yd", "l", "ml", "cl", "qt", "pt", "gal", "W", "kW", "Wh", "kWh", "V", "kV", "A", "mA", "Ah", "mAh", "Hz", "kHz", "MHz",
  "GHz", "KB", "MB", "GB", "TB", "MP", "psi", "rpm", "lm", "dB"]
  .map((unit) => [unit.toLowerCase(), unit]));

const preferred = [browser.read("language"), ...navigator.languages.map((each) => each.slice(0, 2))];
/** The language of the page, "en" or "zh". */
export let language = preferred.find((each) => each in LOCALES) || "en";
/** Texts of the store that replace those of the page, by language. */
let own = {};
let hasPrices = true;
/** Chinese names of fields, by the words in English that name them. */
let names = [];

/** Sets the texts and the language of a store, whether any of its products has a price, and the names of fields. */
export function useFacts({ look, sorts, chinese_names: chinese }) {
  own = look.texts;
  language = look.language ?? language;
  hasPrices = sorts.includes("price");
  names = Object.entries(chinese).map(([words, name]) => [words.split(" "), name]);
}

/** The language to which visitors can change the page. */
export function otherLanguage() {
  return language === "en" ? "zh" : "en";
}

export function changeLanguage() {
  language = otherLanguage();
  browser.write("language", language);
}

/** The text of a name in the page's language, else in English. */
function textOf(name) {
  const [english, chinese] = TEXTS[name] || [];
  return language === "zh" ? chinese ?? english : english;
}

/** The text of a name, with placeholders replaced; a count selects `name` or `name.one`. */
export function t(name, values = {}) {
  const one = values.count === 1 && language === "en" ? textOf(`${name}.one`) : undefined;
  const text = one ?? own[language]?.[name] ?? textOf(name) ?? name;
  return text.replace(/\{(\w+)\}/g, (whole, key) => {
    const value = values[key];
    return typeof value === "number" ? number(value) : String(value ?? whole);
  });
}

export function number(value) {
  return value.toLocaleString(LOCALES[language]);
}

/** A price with its currency, formatted for the language; only the number if there is no currency. Empty for no price
 * in a store without prices. */
export function money(price, currency) {
  if (price === null || price === undefined) return hasPrices ? t("no price") : "";
  const style = currency ? { style: "currency", currency } : { minimumFractionDigits: 2 };
  return price.toLocaleString(LOCALES[language], style);
}

/** The display name of a field; derived from its name if the page has no text for it. */
export function fieldName(field) {
  const bare = field.replace(/^attributes\./, "");
  const whole = textOf(`field.${bare.toLowerCase()}`);
  if (whole) return whole;
  const measured = /^(.+)_([a-z]{1,3})$/i.exec(bare);
  const unit = measured && UNITS[measured[2].toLowerCase()];
  const name = unit ? measured[1] : bare;
  const spaced = name.replace(/([a-z]{2})([A-Z])(?=[a-z])/g, (_, end, first) => `${end} ${first.toLowerCase()}`);
  const text = spaced.replace(/([a-z]{2})([A-Z])/g, "$1 $2").replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());
  const given = text.toLowerCase().split(" ");
  const chinese = language === "zh" && names.find(([words]) => given.every((word) => words.includes(word)))?.[1];
  return (textOf(`field.${name.toLowerCase()}`) || chinese || text) + (unit ? t("unit", { unit }) : "");
}

/** The display name of a value of a field. */
export function valueName(field, value) {
  if (field === "availability") return t(`availability.${value}`);
  if (value === "true" || value === true) return t("yes");
  if (value === "false" || value === false) return t("no");
  return typeof value === "number" ? number(value) : String(value);
}

/** Inserts the page's texts into the elements that refer to them. */
export function translate() {
  document.documentElement.lang = LOCALES[language];
  for (const each of document.querySelectorAll("[data-word]")) each.textContent = t(each.dataset.word);
  for (const each of document.querySelectorAll("[data-label]")) each.setAttribute("aria-label", t(each.dataset.label));
  for (const each of document.querySelectorAll("[data-hint]")) each.setAttribute("placeholder", t(each.dataset.hint));
}
